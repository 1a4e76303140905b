{{/*
What values.schema.json cannot say: values that depend on each other, on what the cluster has, on Secrets. One sentence each.
*/}}
{{- define "telltale.check" -}}
{{- $values := .Values -}}
{{- /* Every API server has this API, and helm assumes it of none: without a cluster nothing can be said of what it has. */ -}}
{{- $cluster := .Capabilities.APIVersions.Has "apiregistration.k8s.io/v1" -}}
{{- if and (hasPrefix "sasl" $values.kafka.security) (not (and $values.kafka.user $values.kafka.passwordSecret.name)) -}}
{{- fail (printf "kafka.security is %s: set kafka.user, and kafka.passwordSecret.name to an existing Secret" $values.kafka.security) -}}
{{- end -}}
{{- if and (not (has $values.kafka.security (list "tls" "sasl-tls"))) (or $values.kafka.caSecret.name $values.kafka.clientSecret.name) -}}
{{- fail (printf "kafka.security is %s, which takes no certificates: set it to tls or sasl-tls, or leave out kafka.caSecret and kafka.clientSecret" $values.kafka.security) -}}
{{- end -}}
{{- if and $values.registry.user (not $values.registry.passwordSecret.name) -}}
{{- fail "registry.user is set: set registry.passwordSecret.name to an existing Secret" -}}
{{- end -}}
{{- if and $values.mqtt.user (not $values.mqtt.passwordSecret.name) -}}
{{- fail "mqtt.user is set: set mqtt.passwordSecret.name to an existing Secret" -}}
{{- end -}}
{{- if and $values.mqtt.caSecret.name (not $values.mqtt.tls) -}}
{{- fail "mqtt.caSecret is set, but connections are not encrypted: set mqtt.tls to true" -}}
{{- end -}}
{{- $bridge := $values.components.bridge -}}
{{- if and $bridge.enabled (gt (int ($bridge.replicas | default 1)) 1) (not $bridge.settings.SHARE) -}}
  {{- range splitList " " ($bridge.settings.MAP | default "unshared") -}}
    {{- if not (hasPrefix "$share/" .) -}}
    {{- fail "components.bridge.replicas is more than 1: each bridge would move every message; set components.bridge.settings.SHARE to the name of a group, which gives up the order of a device's messages" -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $name := list "preprocessor" "scorer" -}}
  {{- $component := index $values.components $name -}}
  {{- $most := ternary (int ($component.replicas | default 1)) (int $component.autoscaling.max) (eq $component.autoscaling.mode "none") -}}
  {{- if and $values.topics.enabled $component.enabled (gt $most (int $values.topics.partitions)) -}}
  {{- fail (printf "components.%s may have %d pods, but topics.partitions is %d: the others would have nothing to do" $name $most (int $values.topics.partitions)) -}}
  {{- end -}}
  {{- if gt (int $component.autoscaling.min) (int $component.autoscaling.max) -}}
  {{- fail (printf "components.%s.autoscaling.min is more than max" $name) -}}
  {{- end -}}
  {{- if and (eq $component.autoscaling.mode "keda") $cluster (not ($.Capabilities.APIVersions.Has "keda.sh/v1alpha1")) -}}
  {{- fail (printf "components.%s.autoscaling.mode is keda, but the cluster has no keda.sh/v1alpha1: install KEDA, or use hpa or none" $name) -}}
  {{- end -}}
{{- end -}}
{{- if and (or $values.monitoring.serviceMonitor.enabled $values.monitoring.rules.enabled) $cluster (not (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1")) -}}
{{- fail "monitoring.serviceMonitor or monitoring.rules is enabled, but the cluster has no monitoring.coreos.com/v1: install the Prometheus operator first, or switch them off" -}}
{{- end -}}
{{- include "telltale.checkSecrets" . -}}
{{- end }}

{{/*
Says which Secret is missing. Only against a cluster: `helm template` looks nothing up and finds not even the namespace's own
service account.
*/}}
{{- define "telltale.checkSecrets" -}}
{{- if and .Values.checkSecrets (lookup "v1" "ServiceAccount" .Release.Namespace "default") -}}
{{- $wanted := dict -}}
{{- range $name, $_ := include "telltale.programs" . | fromYaml -}}
  {{- $enabled := ternary (dig $name "enabled" false $.Values.components) true (hasKey $.Values.components $name) -}}
  {{- if $enabled -}}
    {{- range include "telltale.files" (dict "root" $ "name" $name) | fromYaml -}}
      {{- range . -}}
        {{- if .secret -}}
          {{- $keys := index $wanted .secret.name | default list -}}
          {{- range .secret.items -}}{{- $keys = append $keys .key -}}{{- end -}}
          {{- $_ := set $wanted .secret.name ($keys | uniq) -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $name, $keys := $wanted -}}
  {{- $found := lookup "v1" "Secret" $.Release.Namespace $name -}}
  {{- range $keys -}}
    {{- if not (hasKey ($found.data | default dict) .) -}}
      {{- $hint := "" -}}
      {{- if eq $name $.Values.models.secret -}}
        {{- $hint = printf "; make it: telltale keys generate --out keys && kubectl -n %s create secret generic %s --from-file=keys" $.Release.Namespace $name -}}
      {{- end -}}
      {{- fail (printf "Secret %s of namespace %s is missing or has no key %s%s" $name $.Release.Namespace . $hint) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
