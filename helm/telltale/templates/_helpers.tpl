{{/*
What each program needs, and what runs it. One table, so that a new service is one more entry here and in the values.
  needs   which connections and files it gets: kafka, registry, mqtt, models (follows), keys (checks), signing (trains), pipeline,
          features
  of      the image that has the service as a command of its own name, where it is not the only thing in it
  pod     variables that come from the pod: what makes one instance differ from the others
*/}}
{{- define "telltale.programs" -}}
simulator: {needs: [mqtt], pod: {SHARD: "metadata.labels['apps.kubernetes.io/pod-index']"}}
bridge: {needs: [mqtt, kafka], pod: {MQTT_CLIENT_ID: metadata.name}}
preprocessor: {needs: [kafka, registry, pipeline], pod: {IDENTITY: metadata.name}, reads: sensor-data, group: preprocessor}
trainer: {needs: [kafka, registry, signing, features]}
scorer: {needs: [kafka, registry, models], pod: {IDENTITY: metadata.name}, reads: SENSOR_DATA_S_AVRO, group: scorer}
verifier: {needs: [kafka, registry, keys], of: telltale}
topics: {needs: [kafka, registry], image: telltale}
probe: {needs: [kafka, registry, mqtt], image: telltale}
{{- end }}

{{/* The entry of a program, with the connection that the scorer needs only to tell alerts. Call with (dict "root" $ "name" …). */}}
{{- define "telltale.program" -}}
{{- $program := index (include "telltale.programs" . | fromYaml) .name -}}
{{- $component := index .root.Values.components .name | default dict -}}
{{- if and (eq .name "scorer") (eq (toString (dig "settings" "ALERTS" false $component)) "true") -}}
{{- $program = merge (dict "needs" (append $program.needs "mqtt")) $program -}}
{{- end -}}
{{- $program | toYaml -}}
{{- end }}

{{- define "telltale.fullname" -}}
{{- printf "%s-%s" (.root.Release.Name | trunc 40 | trimSuffix "-") .name -}}
{{- end }}

{{- define "telltale.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- define "telltale.labels" -}}
{{ include "telltale.selector" . }}
app.kubernetes.io/part-of: telltale
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "telltale.image" -}}
{{- $image := .root.Values.image -}}
{{- $name := printf "%s/%s" (trimSuffix "/" $image.registry) .image -}}
{{- with index $image.digests .image -}}
{{ $name }}@{{ . }}
{{- else -}}
{{ $name }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* A number as the programs read it: Helm turns 2000000 into 2e+06. */}}
{{- define "telltale.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end }}

{{/*
The environment of a program: the variables of its `--help`, in order of their names. Call with (dict "root" $ "name" …).
*/}}
{{- define "telltale.environment" -}}
{{- $values := .root.Values -}}
{{- $program := include "telltale.program" . | fromYaml -}}
{{- $service := not (hasKey $program "image") -}}
{{- $env := dict -}}
{{- if has "kafka" $program.needs -}}
  {{- $kafka := $values.kafka -}}
  {{- $_ := set $env "KAFKA" $kafka.bootstrap -}}
  {{- $_ := set $env "KAFKA_SECURITY" $kafka.security -}}
  {{- $_ := set $env "KAFKA_COMPRESSION" $kafka.compression -}}
  {{- $_ := set $env "KAFKA_CLIENT_ID" (include "telltale.fullname" .) -}}
  {{- if hasPrefix "sasl" $kafka.security -}}
    {{- $_ := set $env "KAFKA_SASL" $kafka.sasl -}}
    {{- $_ := set $env "KAFKA_USER" $kafka.user -}}
    {{- $_ := set $env "KAFKA_PASSWORD_FILE" "/etc/telltale/kafka/password" -}}
  {{- end -}}
  {{- if $kafka.caSecret.name -}}
    {{- $_ := set $env "KAFKA_CA" "/etc/telltale/kafka/ca.crt" -}}
  {{- end -}}
  {{- if $kafka.clientSecret.name -}}
    {{- $_ := set $env "KAFKA_CERTIFICATE" "/etc/telltale/kafka/tls.crt" -}}
    {{- $_ := set $env "KAFKA_KEY" "/etc/telltale/kafka/tls.key" -}}
  {{- end -}}
{{- end -}}
{{- if has "registry" $program.needs -}}
  {{- $_ := set $env "REGISTRY" $values.registry.url -}}
  {{- if $values.registry.user -}}
    {{- $_ := set $env "REGISTRY_USER" $values.registry.user -}}
    {{- $_ := set $env "REGISTRY_PASSWORD_FILE" "/etc/telltale/registry/password" -}}
  {{- end -}}
  {{- if $values.registry.caSecret.name -}}
    {{- $_ := set $env "REGISTRY_CA" "/etc/telltale/registry/ca.crt" -}}
  {{- end -}}
{{- end -}}
{{- if has "mqtt" $program.needs -}}
  {{- $mqtt := $values.mqtt -}}
  {{- $_ := set $env "MQTT" $mqtt.address -}}
  {{- $_ := set $env "MQTT_VERSION" $mqtt.version -}}
  {{- if $mqtt.user -}}
    {{- $_ := set $env "MQTT_USER" $mqtt.user -}}
    {{- $_ := set $env "MQTT_PASSWORD_FILE" "/etc/telltale/mqtt/password" -}}
  {{- end -}}
  {{- if $mqtt.tls -}}
    {{- $_ := set $env "MQTT_TLS" "true" -}}
    {{- if $mqtt.caSecret.name -}}
      {{- $_ := set $env "MQTT_CA" "/etc/telltale/mqtt/ca.crt" -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $keys := list -}}
{{- range $values.models.verifyingKeys -}}{{- $keys = append $keys (printf "/etc/telltale/keys/%s" .) -}}{{- end -}}
{{- if or (has "models" $program.needs) (has "signing" $program.needs) -}}
  {{- $_ := set $env "MODEL" $values.models.name -}}
{{- end -}}
{{- if or (has "models" $program.needs) (has "signing" $program.needs) (has "keys" $program.needs) -}}
  {{- $_ := set $env "TRUSTED_KEY" (join "," $keys) -}}
{{- end -}}
{{- if eq .name "verifier" -}}
  {{- range $of := list "preprocessor" "scorer" -}}
    {{- with dig $of "settings" "GROUP" "" $values.components -}}
      {{- $_ := set $env (printf "%s_GROUP" (upper $of)) . -}}
    {{- end -}}
  {{- end -}}
  {{- if dig "bridge" "settings" "SHARE" "" $values.components -}}
    {{- $_ := set $env "ANY_ORDER" true -}}
  {{- end -}}
{{- end -}}
{{- if has "signing" $program.needs -}}
  {{- $_ := set $env "SIGNING_KEY" (printf "/etc/telltale/keys/%s" $values.models.signingKey) -}}
{{- end -}}
{{- range $file := list "pipeline" "features" -}}
  {{- if and (has $file $program.needs) (index $values $file) -}}
    {{- $_ := set $env (upper $file) (printf "/etc/telltale/%s/%s.toml" $file $file) -}}
  {{- end -}}
{{- end -}}
{{- if $service -}}
  {{- $_ := set $env "HTTP_ADDRESS" "0.0.0.0:8080" -}}
  {{- $_ := set $env "LOG" $values.logging.filter -}}
  {{- $_ := set $env "LOG_FORMAT" $values.logging.format -}}
  {{- $_ := set $env "DRAIN_TIMEOUT" (printf "%ds" (int $values.drainSeconds)) -}}
  {{- if $values.tracing.endpoint -}}
    {{- $_ := set $env "OTEL_EXPORTER_OTLP_ENDPOINT" $values.tracing.endpoint -}}
    {{- $_ := set $env "TRACE_SHARE" $values.tracing.share -}}
  {{- end -}}
  {{- $component := index $values.components .name -}}
  {{- if and (eq .name "trainer") $component.schedule -}}
    {{- $_ := set $env "ONCE" "true" -}}
  {{- end -}}
  {{- range $key, $value := $component.settings -}}
    {{- $_ := set $env $key $value -}}
  {{- end -}}
{{- end -}}
{{- $pod := $program.pod | default dict -}}
{{- range $key := concat (keys $env) (keys $pod) | sortAlpha }}
- name: {{ $key }}
{{- if hasKey $pod $key }}
  valueFrom: {fieldRef: {apiVersion: v1, fieldPath: {{ index $pod $key | quote }}}}
{{- else }}
  value: {{ include "telltale.text" (index $env $key) | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The sources of a projected volume: (dict "secret" NAME "items" (dict PATH KEY)), joined. */}}
{{- define "telltale.source" -}}
{{- if .secret }}
- secret:
    name: {{ .secret }}
    items:
    {{- range $path, $key := .items }}
    - {key: {{ $key | quote }}, path: {{ $path | quote }}}
    {{- end }}
{{- end }}
{{- end }}

{{/* The files of a program as volumes by name, each a list of sources; empty where it has none. */}}
{{- define "telltale.files" -}}
{{- $values := .root.Values -}}
{{- $program := include "telltale.program" . | fromYaml -}}
{{- if has "kafka" $program.needs }}
kafka:
{{- if hasPrefix "sasl" $values.kafka.security }}
{{- include "telltale.source" (dict "secret" $values.kafka.passwordSecret.name "items" (dict "password" $values.kafka.passwordSecret.key)) }}
{{- end }}
{{- include "telltale.source" (dict "secret" $values.kafka.caSecret.name "items" (dict "ca.crt" $values.kafka.caSecret.key)) }}
{{- include "telltale.source" (dict "secret" $values.kafka.clientSecret.name "items" (dict "tls.crt" "tls.crt" "tls.key" "tls.key")) }}
{{- end }}
{{- if has "registry" $program.needs }}
registry:
{{- if $values.registry.user }}
{{- include "telltale.source" (dict "secret" $values.registry.passwordSecret.name "items" (dict "password" $values.registry.passwordSecret.key)) }}
{{- end }}
{{- include "telltale.source" (dict "secret" $values.registry.caSecret.name "items" (dict "ca.crt" $values.registry.caSecret.key)) }}
{{- end }}
{{- if has "mqtt" $program.needs }}
mqtt:
{{- if $values.mqtt.user }}
{{- include "telltale.source" (dict "secret" $values.mqtt.passwordSecret.name "items" (dict "password" $values.mqtt.passwordSecret.key)) }}
{{- end }}
{{- if $values.mqtt.tls }}
{{- include "telltale.source" (dict "secret" $values.mqtt.caSecret.name "items" (dict "ca.crt" $values.mqtt.caSecret.key)) }}
{{- end }}
{{- end }}
{{- if or (has "models" $program.needs) (has "signing" $program.needs) (has "keys" $program.needs) }}
{{- $items := dict }}
{{- range $values.models.verifyingKeys }}{{- $_ := set $items . . }}{{- end }}
{{- if has "signing" $program.needs }}{{- $_ := set $items $values.models.signingKey $values.models.signingKey }}{{- end }}
keys:
{{- include "telltale.source" (dict "secret" $values.models.secret "items" $items) }}
{{- end }}
{{- range $file := list "pipeline" "features" }}
{{- if and (has $file $program.needs) (index $values $file) }}
{{ $file }}:
- configMap:
    name: {{ include "telltale.fullname" (dict "root" $.root "name" $file) }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The pod template of a program. Call with (dict "root" $ "name" …, and for a tool "args" and "restart").
*/}}
{{- define "telltale.pod" -}}
{{- $values := .root.Values -}}
{{- $component := index $values.components .name | default dict -}}
{{- $program := include "telltale.program" . | fromYaml -}}
{{- $service := not (hasKey $program "image") -}}
{{- $once := and (eq .name "trainer") $component.schedule -}}
metadata:
  labels:
    {{- include "telltale.labels" . | nindent 4 }}
    {{- with $values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- $annotations := dict }}
  {{- range $file := list "pipeline" "features" }}
  {{- if and (has $file $program.needs) (index $values $file) }}
  {{- $_ := set $annotations (printf "checksum/%s" $file) (printf "%s%s" (index $values $file) (toJson $values.schemas) | sha256sum) }}
  {{- end }}
  {{- end }}
  {{- with merge $annotations $values.podAnnotations }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if $service }}
  serviceAccountName: {{ include "telltale.fullname" (dict "root" .root "name" "services") }}
  {{- end }}
  automountServiceAccountToken: false
  # A Service named kafka would put KAFKA_PORT and its like between our settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add $values.drainSeconds 10 }}
  {{- with .restart | default (ternary "OnFailure" "" (not (not $once))) }}
  restartPolicy: {{ . }}
  {{- end }}
  {{- with $values.image.pullSecrets }}
  imagePullSecrets: {{- range . }}{{ printf "- name: %s" . | nindent 4 }}{{ end }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: {{ .name }}
      image: {{ include "telltale.image" (dict "root" .root "image" ($program.image | default $program.of | default .name)) }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      {{- with .args | default (ternary (list .name) list (hasKey $program "of")) }}
      args: {{ toJson . }}
      {{- end }}
      env: {{- include "telltale.environment" (dict "root" .root "name" .name) | trim | nindent 8 }}
      {{- if $service }}
      ports:
        - {name: http, containerPort: 8080, protocol: TCP}
      {{- if not $once }}
      # /livez answers as soon as the process runs; /readyz says what it waits for, such as the first model.
      startupProbe:
        httpGet: {path: /livez, port: http}
        periodSeconds: 2
        failureThreshold: 30
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        periodSeconds: 5
        timeoutSeconds: 3
      livenessProbe:
        httpGet: {path: /livez, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      {{- end }}
      {{- end }}
      resources: {{- toYaml ($component.resources | default (dict "requests" (dict "cpu" "50m" "memory" "64Mi") "limits" (dict "memory" "256Mi"))) | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      {{- $mounts := list }}
      {{- range $name, $sources := include "telltale.files" (dict "root" .root "name" .name) | fromYaml }}
      {{- if $sources }}{{- $mounts = append $mounts (dict "name" $name "sources" $sources) }}{{- end }}
      {{- end }}
      {{- with $mounts }}
      volumeMounts:
        {{- range . }}
        - {name: {{ .name }}, mountPath: /etc/telltale/{{ .name }}, readOnly: true}
        {{- end }}
      {{- end }}
  {{- with $mounts }}
  volumes:
    {{- range . }}
    - name: {{ .name }}
      projected:
        defaultMode: 0440
        sources: {{- toYaml .sources | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- if and $service (not $once) }}
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "telltale.selector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- with $component.nodeSelector | default $values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $component.tolerations | default $values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
