{{/* The gate's containers and volumes, for this chart's pod and for charts that include them. */}}

{{- define "rankgate.confined" -}}
runAsNonRoot: true
runAsUser: {{ .user }}
# Shared by filters, Envoy and OPA: the group of their sockets.
runAsGroup: 64000
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* One process of a filter: (dict "context" . "role" "authz" "port" 9101 "slot" 0); each further slot has the next port. */}}
{{- define "rankgate.filter" -}}
{{- $suffix := include "rankgate.suffix" . -}}
{{- $port := add .port .slot -}}
- name: ext-{{ .role }}{{ $suffix }}
  restartPolicy: Always
  image: {{ include "rankgate.image" (dict "image" .context.Values.image "context" .context) }}
  imagePullPolicy: {{ .context.Values.image.pullPolicy }}
  args: [ext_{{ .role }}, --config, /etc/rankgate/rankgate.toml, --slot, "{{ .slot }}"]
  env:
    - name: RANKGATE_AUDIT__POD_UID
      valueFrom: {fieldRef: {fieldPath: metadata.uid}}
    {{- with .context.Values.filters.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  securityContext:
    {{- include "rankgate.confined" (dict "user" 64001) | nindent 4 }}
  resources:
    {{- toYaml .context.Values.filters.resources | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  ports:
    - {name: {{ .role }}-health{{ $suffix }}, containerPort: {{ $port }}}
  # Started when it serves; what it needs from elsewhere is asked by readiness and restarts nothing.
  startupProbe: {httpGet: {path: /livez, port: {{ $port }}}, periodSeconds: 1, failureThreshold: 60}
  readinessProbe: {httpGet: {path: /readyz, port: {{ $port }}}, periodSeconds: 5, timeoutSeconds: 2, failureThreshold: 2}
  livenessProbe: {httpGet: {path: /livez, port: {{ $port }}}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3}
  volumeMounts:
    - {name: rankgate-settings, mountPath: /etc/rankgate/rankgate.toml, subPath: rankgate.toml, readOnly: true}
    - {name: rankgate-masking, mountPath: /run/secrets/masking, readOnly: true}
    - {name: rankgate-sockets, mountPath: /run/rankgate}
    - {name: rankgate-audit, mountPath: /var/lib/rankgate}
    - {name: rankgate-tmp, mountPath: /tmp}
    {{- if .context.Values.audit.redis.existingSecret }}
    - {name: rankgate-redis, mountPath: /run/secrets/redis, readOnly: true}
    {{- end }}
    {{- with .context.Values.filters.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "rankgate.initContainers" -}}
- name: envoy-config
  image: {{ include "rankgate.image" (dict "image" .Values.image "context" .) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [rankgate.cli, config, envoy, /etc/rankgate/rankgate.toml, --admin-socket, /run/envoy/admin.sock, --secrets, /etc/envoy, --output, /etc/envoy/envoy.yaml,
         --authz-slots, {{ .Values.filters.processes.authz | toString | quote }}, --proc-slots, {{ .Values.filters.processes.proc | toString | quote }}]
  securityContext:
    {{- include "rankgate.confined" (dict "user" 64001) | nindent 4 }}
  resources:
    requests: {cpu: 50m, memory: 128Mi}
    limits: {memory: 256Mi}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - {name: rankgate-settings, mountPath: /etc/rankgate/rankgate.toml, subPath: rankgate.toml, readOnly: true}
    - {name: rankgate-envoy, mountPath: /etc/envoy}
{{- if .Values.opa.enabled }}
- name: opa
  restartPolicy: Always
  image: {{ include "rankgate.image" (dict "image" .Values.opa.image "context" .) }}
  imagePullPolicy: {{ .Values.opa.image.pullPolicy }}
  command: [/opa]
  # Reloads the policy when the ConfigMap changes. No --bundle: that finds nothing behind a ConfigMap's links; and its
  # own bookkeeping, names with a dot, would be read as a second copy.
  args: [run, --server, --addr, "unix:///run/opa/opa.sock", --unix-socket-perm, "660", --diagnostic-addr, "0.0.0.0:8282",
         --skip-version-check, --log-level, error, --watch, --ignore, ".*", --ignore, "*_test.rego", /policies]
  securityContext:
    {{- include "rankgate.confined" (dict "user" 64003) | nindent 4 }}
  resources:
    {{- toYaml .Values.opa.resources | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  ports:
    - {name: opa-health, containerPort: 8282}
  startupProbe: {httpGet: {path: /health, port: 8282}, periodSeconds: 1, failureThreshold: 60}
  readinessProbe: {httpGet: {path: /health, port: 8282}, periodSeconds: 5, timeoutSeconds: 2, failureThreshold: 2}
  livenessProbe: {httpGet: {path: /health, port: 8282}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3}
  volumeMounts:
    - {name: rankgate-policies, mountPath: /policies, readOnly: true}
    - {name: rankgate-opa, mountPath: /run/opa}
{{- end }}
{{- range $slot := until (int .Values.filters.processes.proc) }}
{{ include "rankgate.filter" (dict "context" $ "role" "proc" "port" 9201 "slot" $slot) }}
{{- end }}
{{- range $slot := until (int .Values.filters.processes.authz) }}
{{ include "rankgate.filter" (dict "context" $ "role" "authz" "port" 9101 "slot" $slot) }}
    {{- if $.Values.opa.enabled }}
    - {name: rankgate-opa, mountPath: /run/opa}
    {{- else }}
    - {name: rankgate-policies, mountPath: /etc/rankgate/policies, readOnly: true}
    {{- end }}
    - {name: rankgate-cluster, mountPath: /etc/rankgate/cluster, readOnly: true}
    {{- if $.Values.jwks.configMap }}
    - {name: rankgate-jwks, mountPath: /etc/rankgate/jwks, readOnly: true}
    {{- end }}
    {{- if include "rankgate.lent" $ }}
    - {name: rankgate-upstream, mountPath: /run/secrets/upstream, readOnly: true}
    {{- end }}
    {{- with include "rankgate.approvalMounts" $ | trim }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end }}
- name: envoy
  restartPolicy: Always
  image: {{ include "rankgate.image" (dict "image" .Values.envoy.image "context" .) }}
  imagePullPolicy: {{ .Values.envoy.image.pullPolicy }}
  command: [/usr/local/bin/envoy]
  args: [--config-path, /etc/envoy/envoy.yaml, --disable-hot-restart, --concurrency, {{ dig "envoy" "concurrency" 1 .Values.settings | toString | quote }}, --log-level, {{ dig "envoy" "log_level" "warning" .Values.settings }}]
  securityContext:
    {{- include "rankgate.confined" (dict "user" 64002) | nindent 4 }}
  resources:
    {{- toYaml .Values.envoy.resources | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  ports:
    - {name: gate, containerPort: 8080}
    - {name: envoy-metrics, containerPort: 9901}
  {{- $scheme := ternary "HTTPS" "HTTP" (ne .Values.tls.existingSecret "") }}
  startupProbe: {httpGet: {path: /healthz, port: 8080, scheme: {{ $scheme }}}, periodSeconds: 1, failureThreshold: 60}
  readinessProbe: {httpGet: {path: /healthz, port: 8080, scheme: {{ $scheme }}}, periodSeconds: 5, timeoutSeconds: 2, failureThreshold: 2}
  livenessProbe: {httpGet: {path: /healthz, port: 8080, scheme: {{ $scheme }}}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3}
  volumeMounts:
    - {name: rankgate-envoy, mountPath: /etc/envoy, readOnly: true}
    - {name: rankgate-admin, mountPath: /run/envoy}
    - {name: rankgate-sockets, mountPath: /run/rankgate}
    {{- if .Values.tls.existingSecret }}
    - {name: rankgate-tls, mountPath: /etc/rankgate/tls, readOnly: true}
    {{- end }}
{{- end -}}

{{- define "rankgate.volumes" -}}
- name: rankgate-settings
  configMap: {name: {{ include "rankgate.fullname" . }}-settings}
- name: rankgate-policies
  configMap: {name: {{ include "rankgate.policies" . }}}
- name: rankgate-cluster
  configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
{{- if .Values.jwks.configMap }}
- name: rankgate-jwks
  configMap: {name: {{ .Values.jwks.configMap }}}
{{- end }}
# Mounted into the containers that need them alone; readable there, because they run as another user.
- name: rankgate-masking
  secret: {secretName: {{ include "rankgate.keys" . }}, defaultMode: 0444, items: [{key: masking_key, path: masking_key}{{ if .Values.keys.signingKey }}, {key: signing_key, path: signing_key}{{ end }}]}
{{- with include "rankgate.lent" . }}
- name: rankgate-upstream
  secret: {secretName: {{ include "rankgate.keys" $ }}, defaultMode: 0444, items: [{key: {{ . }}, path: {{ . }}}]}
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: rankgate-tls
  secret: {secretName: {{ .Values.tls.existingSecret }}, defaultMode: 0444, items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]}
{{- end }}
{{- if .Values.audit.redis.existingSecret }}
- name: rankgate-redis
  secret: {secretName: {{ .Values.audit.redis.existingSecret }}, defaultMode: 0444, items: [{key: password, path: password}, {key: ca.crt, path: ca.crt}]}
{{- end }}
{{- with include "rankgate.approvalVolumes" . | trim }}
{{ . }}
{{- end }}
# Where filters and Envoy meet. Never mount it into the reranker: who can connect there can obtain a credential.
- name: rankgate-sockets
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- if .Values.opa.enabled }}
- name: rankgate-opa
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end }}
- name: rankgate-envoy
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
- name: rankgate-admin
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
- name: rankgate-tmp
  emptyDir: {medium: Memory, sizeLimit: 16Mi}
- name: rankgate-audit
  {{- toYaml .Values.audit.volume | nindent 2 }}
{{- end -}}
