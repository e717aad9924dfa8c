{{/* The approvals console, and what of approvals the gate mounts. */}}

{{- define "rankgate.approvals" -}}
{{- dig "approvals" "redis_url" "" .Values.settings -}}
{{- end -}}

{{/* The files of public keys that votes count by, as JSON: empty without approvals. */}}
{{- define "rankgate.voteKeys" -}}
{{- $named := .Values.approvals.voteKeys.configMap -}}
{{- if and (include "rankgate.approvals" .) (not $named) }}{{ fail "approvals.voteKeys.configMap: name a ConfigMap with the console's public key: kubectl create configmap NAME --from-file=vote-key.pub.pem" }}{{ end -}}
{{- if and $named (not (include "rankgate.approvals" .)) }}{{ fail "approvals.voteKeys.configMap has no effect without settings.approvals.redis_url" }}{{ end -}}
{{- $files := list -}}
{{- range .Values.approvals.voteKeys.files }}{{ $files = append $files (printf "/etc/rankgate/votes/%s" .) }}{{ end -}}
{{- $files | toJson -}}
{{- end -}}

{{/* Where approvals are kept: for gate and console alike. */}}
{{- define "rankgate.approvalRedis" -}}
{{- $redis := dict -}}
{{- if .Values.approvals.redis.existingSecret -}}
{{- $_ := set $redis "redis_password_file" "/run/secrets/approvals/password" -}}
{{- $_ := set $redis "redis_ca_file" "/run/secrets/approvals/ca.crt" -}}
{{- end -}}
{{- $redis | toJson -}}
{{- end -}}

{{- define "rankgate.approvalVolumes" -}}
{{- if include "rankgate.approvals" . }}
- name: rankgate-votes
  configMap: {name: {{ .Values.approvals.voteKeys.configMap }}}
{{- if .Values.approvals.redis.existingSecret }}
- name: rankgate-approvals
  secret: {secretName: {{ .Values.approvals.redis.existingSecret }}, defaultMode: 0444, items: [{key: password, path: password}, {key: ca.crt, path: ca.crt}]}
{{- end }}
{{- end }}
{{- end -}}

{{- define "rankgate.approvalMounts" -}}
{{- if include "rankgate.approvals" . }}
- {name: rankgate-votes, mountPath: /etc/rankgate/votes, readOnly: true}
{{- if .Values.approvals.redis.existingSecret }}
- {name: rankgate-approvals, mountPath: /run/secrets/approvals, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{/* How long the pod may take to end: the reranker's preStop, the longest call, 20 s to ship what was recorded. The
     longest call is Settings.deadline_s, with people where there are approvals; a test compares the two. */}}
{{- define "rankgate.grace" -}}
{{- $check := dig "limits" "check_timeout_s" 5.0 .Values.settings | float64 -}}
{{- $seconds := addf $check (dig "limits" "request_timeout_s" 15.0 .Values.settings) (mulf 2.0 (dig "limits" "process_timeout_s" 5.0 .Values.settings)) (dig "upstream" "timeout_s" 30.0 .Values.settings) 5.0 -}}
{{- if include "rankgate.approvals" . -}}
{{- $seconds = addf $seconds (dig "approvals" "hold_s" 25.0 .Values.settings) (mulf 0.8 $check) -}}
{{- end -}}
{{- default (addf $seconds .Values.reranker.preStopSeconds 20.0 | ceil | int) .Values.terminationGracePeriodSeconds -}}
{{- end -}}

{{- define "rankgate.consoleName" -}}
{{- printf "%s-console" (include "rankgate.fullname" . | trunc 55 | trimSuffix "-") -}}
{{- end -}}

{{/* Another name than the gate's: neither its Service nor its policies may select the console. */}}
{{- define "rankgate.consoleSelector" -}}
app.kubernetes.io/name: {{ printf "%s-console" (default .Chart.Name .Values.nameOverride | trunc 55 | trimSuffix "-") }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "rankgate.consoleLabels" -}}
{{ include "rankgate.consoleSelector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* The console's settings file: yours, and over them what this chart mounts and listens on. */}}
{{- define "rankgate.consoleSettings" -}}
{{- $console := .Values.console -}}
{{- if not (include "rankgate.approvals" .) }}{{ fail "console.enabled: name where approvals are kept in settings.approvals.redis_url; the console uses the same" }}{{ end -}}
{{- $_ := required "console.settings.public_url: name the origin that people use, as https://approvals.example" $console.settings.public_url -}}
{{- range $name := list "issuer" "client_id" "audience" -}}
{{- $_ := required (printf "console.settings.login.%s: the console needs an issuer that people log in at; docs/approvals.md" $name) (dig "login" $name "" $console.settings) -}}
{{- end -}}
{{- $listen := dict "address" "0.0.0.0" "port" 8090 -}}
{{- if $console.tls.existingSecret -}}
{{- $_ := set $listen "certificate_file" "/etc/rankgate/tls/tls.crt" -}}
{{- $_ := set $listen "key_file" "/etc/rankgate/tls/tls.key" -}}
{{- else -}}
{{- $_ := set $listen "insecure_plaintext" true -}}
{{- end -}}
{{- $state := merge (include "rankgate.approvalRedis" . | fromJson) (pick .Values.settings.approvals "redis_url" "redis_user") -}}
{{- $owned := dict
      "deployment" (default "default" .Values.settings.deployment)
      "vote_key_file" "/run/secrets/console/vote-key.pem"
      "preview_key_file" "/run/secrets/console/preview-key.txt"
      "vote_keys" (include "rankgate.voteKeys" . | fromJsonArray)
      "listen" $listen
      "state" $state
      "journal" (dict "directory" "/var/lib/rankgate-console/journal")
      "health" (dict "address" "0.0.0.0" "port" 9301) -}}
{{- if $console.login.existingSecret }}{{ $_ := set $owned "login" (dict "client_secret_file" "/run/secrets/login/client_secret") }}{{ end -}}
{{- if $console.webhook.existingSecret }}{{ $_ := set $owned "webhook" (dict "secret_file" "/run/secrets/webhook/secret") }}{{ end -}}
{{- if $console.audit.existingSecret }}{{ $_ := set $owned "audit" (dict "redis_password_file" "/run/secrets/audit/password" "redis_ca_file" "/run/secrets/audit/ca.crt") }}{{ end -}}
{{- mergeOverwrite (deepCopy $console.settings) $owned | toToml -}}
{{- end -}}
