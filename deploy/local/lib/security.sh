# shellcheck shell=bash disable=SC2154 # the settings (dir, security, ..._port) are set by engines.sh
# SECURITY=on: a test authority, a certificate for the engines, a password for each user, and settings for each of our programs.
#
#   data/security/authority.{pem,key} ─▶ engines.{pem,p12}    passwords/USER    USER.env: the settings of USER's program
#
# It lies with the data, since Kafka keeps what it was told of the passwords there. Only the owner can read any of it.

# `broker` is what the Kafka nodes call themselves; `admin` may do everything; each of the others is one of our programs.
SECURITY_USERS='broker admin bridge preprocessor trainer scorer verifier cli simulator'
SECURITY_DAYS=800

security_folder() { echo "$dir/data/security"; }

security_on() { [[ $security == on ]]; }

password_file() { echo "$(security_folder)/passwords/$1"; }

password_of() { head -n 1 "$(password_file "$1")"; }

security_prepare() {
    local folder user
    folder=$(security_folder)
    need openssl openssl openssl openssl@3
    mkdir -p "$folder/passwords"
    for user in $SECURITY_USERS keystore; do
        [[ -s $folder/passwords/$user ]] || openssl rand -hex 24 >"$folder/passwords/$user"
    done
    authority "$folder"
    engines_certificate "$folder"
    for user in ${SECURITY_USERS#broker }; do # the nodes themselves have settings of their own
        program_settings "$user" >"$folder/$user.env"
    done
    kafka_tool_settings >"$folder/admin.properties"
    printf 'cacert = "%s"\nuser = "admin:%s"\n' "$folder/authority.pem" "$(password_of admin)" >"$folder/registry.curl"
}

# Runs openssl; its chatter goes to a log that is named when it fails.
openssl_quietly() {
    openssl "$@" >"$dir/logs/openssl.log" 2>&1 ||
        die "openssl $1 failed: $(grep -v '^[.+*-]*$' "$dir/logs/openssl.log" | head -n 3)"
}

authority() {
    [[ ! -s $1/authority.pem || ! -s $1/authority.key ]] || return 0
    echo "making a test authority: $1/authority.pem"
    openssl_quietly req -x509 -newkey rsa:2048 -nodes -days 3650 -keyout "$1/authority.key" -out "$1/authority.pem" \
        -subj "/CN=Telltale test authority of $(hostname)" -config <(openssl_settings) -extensions authority
    rm -f "$1/engines.pem"
}

openssl_settings() {
    printf '%s\n' '[req]' 'distinguished_name=name' '[name]' '[authority]' 'basicConstraints=critical,CA:TRUE' \
        'keyUsage=critical,keyCertSign,cRLSign' 'subjectKeyIdentifier=hash'
}

# One certificate for all engines, for this machine's own names only; made anew while it has less than a week to live.
engines_certificate() {
    if [[ -s $1/engines.pem ]] && openssl x509 -checkend 604800 -noout -in "$1/engines.pem" >/dev/null; then return; fi
    openssl_quietly req -new -newkey rsa:2048 -nodes -keyout "$1/engines.key" -out "$1/engines.csr" -subj /CN=localhost \
        -config <(openssl_settings)
    openssl_quietly x509 -req -in "$1/engines.csr" -CA "$1/authority.pem" -CAkey "$1/authority.key" \
        -set_serial "0x$(openssl rand -hex 16)" -days "$SECURITY_DAYS" -out "$1/engines.crt" \
        -extfile <(printf '%s\n' 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1' 'extendedKeyUsage=serverAuth,clientAuth')
    # Kafka reads PEM (key, then certificates), HiveMQ a key store, the registry separate files.
    cat "$1/engines.key" "$1/engines.crt" "$1/authority.pem" >"$1/engines.pem"
    openssl_quietly pkcs12 -export -inkey "$1/engines.key" -in "$1/engines.crt" -certfile "$1/authority.pem" \
        -name engines -out "$1/engines.p12" -passout "file:$(password_file keystore)"
}

# The settings of user $1's program, as the environment variables that its --help names.
program_settings() {
    local folder user=$1
    folder=$(security_folder)
    case $user in bridge | scorer | cli | simulator | admin)
        printf '%s\n' "MQTT=127.0.0.1:$mqtt_port" MQTT_TLS=true "MQTT_CA=$folder/authority.pem" \
            "MQTT_USER=$user" "MQTT_PASSWORD_FILE=$(password_file "$user")"
        ;;
    esac
    case $user in bridge | preprocessor | trainer | scorer | verifier | cli | admin)
        printf '%s\n' "KAFKA=$(kafka_addresses)" KAFKA_SECURITY=sasl-tls "KAFKA_CA=$folder/authority.pem" \
            KAFKA_SASL=scram-sha-512 "KAFKA_USER=$user" "KAFKA_PASSWORD_FILE=$(password_file "$user")"
        ;;
    esac
    case $user in preprocessor | trainer | scorer | verifier | cli | admin)
        printf '%s\n' "REGISTRY=$(registry_url)" "REGISTRY_CA=$folder/authority.pem" "REGISTRY_USER=$user" \
            "REGISTRY_PASSWORD_FILE=$(password_file "$user")"
        ;;
    esac
}

# Settings of Kafka's own tools, as admin.
kafka_tool_settings() {
    cat <<TEXT
bootstrap.servers=$(kafka_addresses)
security.protocol=SASL_SSL
ssl.truststore.type=PEM
ssl.truststore.location=$(security_folder)/authority.pem
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="admin" password="$(password_of admin)";
TEXT
}
