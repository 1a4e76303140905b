# shellcheck shell=bash disable=SC2154 # the settings (dir, here) are set by engines.sh
# A JDK that is new enough, and the engines' files from Maven Central, each held to its checksum.

# Whether the file list is what SHA256SUMS says decides; the plugin that fetches is pinned all the same.
COPY=org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies

# Folders a JDK may lie in, the user's choice first.
java_homes() {
    local on_path home
    [[ -z ${JAVA_HOME:-} ]] || echo "$JAVA_HOME"
    on_path=$(command -v javac || true)
    [[ -z $on_path ]] || dirname "$(dirname "$(readlink -f "$on_path" 2>/dev/null || echo "$on_path")")"
    for home in /usr/lib/jvm/* /usr/java/* /opt/*jdk* "$HOME"/.jdks/* "$HOME"/.sdkman/candidates/java/* \
        /Library/Java/JavaVirtualMachines/*/Contents/Home /opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home; do
        echo "$home"
    done
}

# Prints the feature version of the JDK in $1, from the file every JDK carries: asking the JVM takes a second.
java_version() {
    sed -n 's/^JAVA_VERSION="\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' "$1/release" 2>/dev/null
}

# Prints the first JDK of version $1 or newer; $2 needs it.
java_home() {
    local oldest=$1 engine=$2 home version seen=''
    while read -r home; do
        [[ -x $home/bin/java && -x $home/bin/javac ]] || continue
        version=$(java_version "$home")
        [[ -n $version ]] || continue
        if ((version >= oldest)); then
            echo "$home"
            return
        fi
        [[ " $seen " == *" $version "* ]] || seen="$seen $version"
    done < <(java_homes)
    die "$engine needs a JDK of version $oldest or newer (found:${seen:- none}; looked in JAVA_HOME, PATH and the usual folders)." \
        "Debian 13, Ubuntu: apt-get install openjdk-21-jdk-headless. Debian 12 has 17 only: set JAVA_HOME to a newer one." \
        "Fedora: dnf install java-21-openjdk-devel. macOS: brew install openjdk@21"
}

need() { # command, package of Debian, of Fedora, of Homebrew
    command -v "$1" >/dev/null 2>&1 ||
        die "missing: $1. Debian, Ubuntu: apt-get install $2. Fedora: dnf install $3. macOS: brew install $4"
}

checksums() (
    cd "$1" || exit
    if command -v sha256sum >/dev/null 2>&1; then sha256sum -- *; else shasum -a 256 -- *; fi
)

# Brings the files of engine $1 into jars/$1, unless they lie there already as the list wants them.
fetch() {
    local engine=$1 folder=$dir/jars/$1 list=$here/$1/SHA256SUMS java
    ! cmp -s "$list" "$folder.SHA256SUMS" || return 0
    need mvn maven maven maven
    echo "fetching $engine from Maven Central ($(grep -c . "$list") files)"
    rm -rf "$folder" "$folder.SHA256SUMS" "$folder.new"
    java=$(java_home 17 Maven)
    JAVA_HOME=$java mvn --quiet --batch-mode -Dstyle.color=never --strict-checksums --file "$here/$engine/pom.xml" \
        "$COPY" -DincludeScope=runtime -DoutputDirectory="$folder.new" ||
        die "fetching $engine failed (above: what Maven says); it needs Maven Central or a mirror named in Maven's own settings"
    if ! checksums "$folder.new" | LC_ALL=C sort -k 2 | diff <(LC_ALL=C sort -k 2 "$list") - >&2; then
        die "what Maven brought for $engine differs from $list (<: pinned, >: brought); nothing was started. Left for a look: $folder.new"
    fi
    mv "$folder.new" "$folder"
    cp "$list" "$folder.SHA256SUMS"
}

# Compiles $2.java beside engine $1's list of files with the JDK $3, against that engine's jars.
compile() {
    local source=$here/$1/$2.java classes=$dir/jars/$1-classes
    [[ ! $classes/$2.class -nt $source ]] || return 0
    "$3/bin/javac" -Xlint:all --release 17 -cp "$dir/jars/$1/*" -d "$classes" "$source" || die "compiling $source failed"
}

# Refuses data of $1 that was written by another version or layout ($2); new data is marked with it.
claim_data() {
    local file=$dir/data/$1.layout
    if [[ -f $file && $(<"$file") != "$2" ]]; then
        die "$dir/data/$1 holds the data of: $(<"$file"); asked for: $2. Start it as it was, or give another folder (make up DIR=...), or remove it: rm -r $dir/data"
    fi
    mkdir -p "$dir/data/$1"
    echo "$2" >"$file"
}
