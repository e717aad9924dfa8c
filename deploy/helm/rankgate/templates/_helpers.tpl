{{- define "rankgate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "rankgate.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "rankgate.labels" -}}
{{ include "rankgate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "rankgate.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "rankgate.fullname" .) .Values.serviceAccount.name }}{{ else }}{{ default "default" .Values.serviceAccount.name }}{{ end -}}
{{- end -}}

{{- define "rankgate.policies" -}}
{{- default (printf "%s-policies" (include "rankgate.fullname" .)) .Values.policy.configMap -}}
{{- end -}}

{{- define "rankgate.keys" -}}
{{- required "keys.existingSecret: name a Secret with masking_key: kubectl create secret generic NAME --from-file=masking_key" .Values.keys.existingSecret -}}
{{- end -}}

{{/* What of the Secret the broker works with: its key, empty where nothing is lent. */}}
{{- define "rankgate.lent" -}}
{{- $lent := list -}}
{{- if .Values.keys.upstreamKey }}{{ $lent = append $lent "upstream_key" }}{{ end -}}
{{- if .Values.keys.mintingKeys }}{{ $lent = append $lent "minting_keys" }}{{ end -}}
{{- if .Values.keys.exchangeSecret }}{{ $lent = append $lent "exchange_secret" }}{{ end -}}
{{- if gt (len $lent) 1 }}{{ fail "keys: a gate lends one credential; set one of upstreamKey, mintingKeys and exchangeSecret" }}{{ end -}}
{{- join "" $lent -}}
{{- end -}}

{{/* An image by digest where there is one: (dict "image" .Values.x.image "context" .) */}}
{{- define "rankgate.image" -}}
{{- $own := .context.Values.image -}}
{{- $repository := default $own.repository .image.repository -}}
{{- $tag := .image.tag -}}
{{- $digest := .image.digest -}}
{{- if not .image.repository }}{{ $tag = default $own.tag $tag }}{{ $digest = default $own.digest $digest }}{{ end -}}
{{- if $digest }}{{ $repository }}@{{ $digest }}{{ else }}{{ $repository }}:{{ default .context.Chart.AppVersion $tag }}{{ end -}}
{{- end -}}

{{/* What tells one process of a filter from the others: (dict "slot" 0). The first goes by the filter's name alone. */}}
{{- define "rankgate.suffix" -}}
{{- if .slot }}-{{ .slot }}{{ end -}}
{{- end -}}

{{/* The settings file: yours, and over them what this chart mounts and listens on. */}}
{{- define "rankgate.settings" -}}
{{- $listen := dict "address" "0.0.0.0" "port" 8080 -}}
{{- if .Values.tls.existingSecret -}}
{{- $_ := set $listen "certificate_file" "/etc/rankgate/tls/tls.crt" -}}
{{- $_ := set $listen "key_file" "/etc/rankgate/tls/tls.key" -}}
{{- else -}}
{{- $_ := set $listen "insecure_plaintext" true -}}
{{- end -}}
{{- $policy := dict "engine" "embedded" "directory" "/etc/rankgate/policies" -}}
{{- if .Values.opa.enabled }}{{ $policy = dict "engine" "opa" "url" "unix:///run/opa/opa.sock" }}{{ end -}}
{{- $audit := dict "directory" "/var/lib/rankgate/audit" -}}
{{- if .Values.audit.redis.existingSecret -}}
{{- $_ := set $audit "redis_password_file" "/run/secrets/redis/password" -}}
{{- $_ := set $audit "redis_ca_file" "/run/secrets/redis/ca.crt" -}}
{{- end -}}
{{- if .Values.keys.signingKey }}{{ $_ := set $audit "signing_key_file" "/run/secrets/masking/signing_key" }}{{ end -}}
{{- $approvals := dict -}}
{{- $votes := include "rankgate.voteKeys" . | fromJsonArray -}}
{{- if include "rankgate.approvals" . }}{{ $approvals = merge (dict "vote_keys" $votes) (include "rankgate.approvalRedis" . | fromJson) }}{{ end -}}
{{- $credentials := dict "broker" "none" -}}
{{- $lent := include "rankgate.lent" . -}}
{{- $file := printf "/run/secrets/upstream/%s" $lent -}}
{{- if eq $lent "upstream_key" }}{{ $credentials = dict "broker" "file" "file" $file }}{{ end -}}
{{- if eq $lent "minting_keys" }}{{ $credentials = dict "broker" "minted" "minted" (dict "key_file" $file) }}{{ end -}}
{{- if eq $lent "exchange_secret" }}{{ $credentials = dict "broker" "exchange" "exchange" (dict "client_secret_file" $file) }}{{ end -}}
{{- $owned := dict
      "listen" $listen
      "upstream" (dict "url" (printf "http://127.0.0.1:%d" (int .Values.reranker.port)))
      "masking" (dict "key_file" "/run/secrets/masking/masking_key")
      "policy" $policy
      "credentials" $credentials
      "audit" $audit
      "approvals" $approvals
      "sockets" (dict "directory" "/run/rankgate/sockets" "group" 64000)
      "health" (dict "address" "0.0.0.0" "ext_authz_port" 9101 "ext_proc_port" 9201 "envoy_port" 9901) -}}
{{- if not $approvals }}{{ $owned = omit $owned "approvals" }}{{ end -}}
{{- mergeOverwrite (deepCopy .Values.settings) $owned | toToml -}}
{{- end -}}
