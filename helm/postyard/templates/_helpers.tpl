{{- define "postyard.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Room is left for "-sender-POOL-ORDINAL": a StatefulSet's pods must fit into a label. */}}
{{- define "postyard.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 30 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "postyard.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 30 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 30 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "postyard.selector" -}}
app.kubernetes.io/name: {{ include "postyard.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
postyard/pool: {{ . }}
{{- end }}
{{- end -}}

{{- define "postyard.labels" -}}
{{ include "postyard.selector" . }}
app.kubernetes.io/part-of: postyard
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "postyard.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{- define "postyard.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "postyard.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The part of the configuration that follows from the values. Another file that says one of these again is refused, and named. */}}
{{- define "postyard.chartToml" -}}
[kafka]
bootstrap = {{ required "kafka.bootstrap: where is Kafka? host:port, or several with commas" .Values.kafka.bootstrap | quote }}
prefix = {{ .Values.kafka.prefix | quote }}
partitions = {{ int .Values.kafka.partitions }}
slots = {{ int .Values.kafka.slots }}
replication = {{ int .Values.kafka.replication }}
min_insync = {{ int .Values.kafka.minInsync }}
{{- if .Values.kafka.tls.enabled }}

[kafka.tls]
{{- if .Values.kafka.tls.caSecret.name }}
ca_file = "/etc/postyard/kafka/ca/ca.crt"
{{- end }}
{{- if .Values.kafka.tls.clientCertificates }}
cert_file = "/etc/postyard/kafka/user/user.crt"
key_file = "/etc/postyard/kafka/user/user.key"
{{- end }}
{{- end }}
{{- if .Values.kafka.sasl.enabled }}

[kafka.sasl]
mechanism = {{ .Values.kafka.sasl.mechanism | quote }}
password_file = "/etc/postyard/kafka/user/password"
{{- end }}

[configuration]
follow = {{ .Values.config.follow | quote }}

[dns]
{{- if eq .Values.dns.mode "sidecar" }}
nameservers = ["127.0.0.1"]
port = 5335
{{- else if eq .Values.dns.mode "service" }}
nameservers = [{{ required "dns.service.clusterIP: an address of the cluster's service range" .Values.dns.service.clusterIP | quote }}]
{{- else }}
nameservers = [{{ range $at, $one := .Values.dns.nameservers }}{{ if $at }}, {{ end }}{{ $one | quote }}{{ end }}]
{{- end }}

[sender]
grace = "{{ sub (int .Values.senders.terminationGracePeriodSeconds) (add 10 (int .Values.senders.preStopSeconds)) }}s"
{{ end -}}

{{- define "postyard.configData" -}}
00-chart.toml: |
{{ include "postyard.chartToml" . | indent 2 }}
{{- range $name, $text := .Values.config.files }}
{{ $name }}: |
{{ $text | indent 2 }}
{{- end }}
{{- end -}}

{{/* What a process reads once, at its start: a change of it rolls the pods. The rest is taken over while they run. */}}
{{- define "postyard.podAnnotations" -}}
checksum/chart-config: {{ include "postyard.chartToml" . | sha256sum | trunc 16 }}
{{- with .Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "postyard.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "postyard.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What every pod is: no token, nobody else's variables, names asked for as they are written. */}}
{{- define "postyard.podBase" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  {{- include "postyard.podSecurity" .root | nindent 2 }}
dnsConfig:
  options:
    - name: ndots
      value: "1"
{{- end -}}

{{- define "postyard.spread" -}}
topologySpreadConstraints:
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: {{ ternary "DoNotSchedule" "ScheduleAnyway" $.root.Values.strictSpread }}
    labelSelector:
      matchLabels:
        {{- include "postyard.selector" $ | nindent 8 }}
{{- end }}
{{- end -}}

{{- define "postyard.env" -}}
- name: POSTYARD_CONFIG
  value: /etc/postyard/config
- name: POSTYARD_HTTP_PORT
  value: {{ .port | default 9464 | quote }}
- name: POSTYARD_POD
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
{{- if .root.Values.kafka.sasl.enabled }}
- name: POSTYARD_KAFKA_USERNAME
  value: {{ (index .root.Values.kafka.users .user).username | quote }}
{{- end }}
{{- with .root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "postyard.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 2
  failureThreshold: 60
# The loop turns. Kafka and DNS are no reason to restart.
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 3
{{- end -}}

{{- define "postyard.mounts" -}}
- {name: config, mountPath: /etc/postyard/config, readOnly: true}
{{- if and .root.Values.kafka.tls.enabled .root.Values.kafka.tls.caSecret.name }}
- {name: kafka-ca, mountPath: /etc/postyard/kafka/ca, readOnly: true}
{{- end }}
{{- if or .root.Values.kafka.sasl.enabled .root.Values.kafka.tls.clientCertificates }}
- {name: kafka-user, mountPath: /etc/postyard/kafka/user, readOnly: true}
{{- end }}
{{- if .secrets }}
{{- range .root.Values.secretMounts }}
- {name: secret-{{ .directory }}, mountPath: /etc/postyard/secrets/{{ .directory }}, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{/* Directories, never single files: a mounted file would not follow its ConfigMap. */}}
{{- define "postyard.volumes" -}}
{{- $kafka := .root.Values.kafka -}}
- name: config
  configMap:
    name: {{ .configMap | default (printf "%s-config" (include "postyard.fullname" .root)) }}
    defaultMode: 0444
{{- if and $kafka.tls.enabled $kafka.tls.caSecret.name }}
- name: kafka-ca
  secret:
    secretName: {{ $kafka.tls.caSecret.name }}
    defaultMode: 0440
    items: [{key: {{ $kafka.tls.caSecret.key }}, path: ca.crt}]
{{- end }}
{{- if or $kafka.sasl.enabled $kafka.tls.clientCertificates }}
{{- $user := index $kafka.users .user }}
- name: kafka-user
  secret:
    secretName: {{ required (printf "kafka.users.%s.existingSecret: the Secret of that user of Kafka" .user) $user.existingSecret }}
    defaultMode: 0440
    items:
      {{- if $kafka.sasl.enabled }}
      - {key: {{ $kafka.keys.password }}, path: password}
      {{- end }}
      {{- if and $kafka.tls.enabled $kafka.tls.clientCertificates }}
      - {key: {{ $kafka.keys.certificate }}, path: user.crt}
      - {key: {{ $kafka.keys.key }}, path: user.key}
      {{- end }}
{{- end }}
{{- if .secrets }}
{{- range .root.Values.secretMounts }}
- name: secret-{{ .directory }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- end -}}

{{/* A resolver beside the service; as a sidecar it is there before it, and ends after it. */}}
{{- define "postyard.dnsSidecar" -}}
{{- if eq .root.Values.dns.mode "sidecar" }}
- name: dns
  image: {{ include "postyard.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  restartPolicy: Always
  command: [/usr/sbin/unbound, -d, -c, /etc/postyard/dns/unbound.conf]
  securityContext:
    {{- include "postyard.containerSecurity" .root | nindent 4 }}
  startupProbe:
    exec:
      command: [python, -c, "import socket; socket.create_connection(('127.0.0.1', 5335), 2)"]
    periodSeconds: 2
    timeoutSeconds: 5
    failureThreshold: 15
  resources:
    {{- toYaml .root.Values.dns.resources | nindent 4 }}
  volumeMounts:
    - {name: dns, mountPath: /etc/postyard/dns, readOnly: true}
{{- end }}
{{- end -}}

{{- define "postyard.dnsVolume" -}}
{{- if eq .root.Values.dns.mode "sidecar" }}
- name: dns
  configMap:
    name: {{ include "postyard.fullname" .root }}-dns
    defaultMode: 0444
{{- end }}
{{- end -}}

{{/* How many pods a pool of fixed slots has: as many as its inventory names. */}}
{{- define "postyard.fixedReplicas" -}}
{{- if eq .egress "hostNetwork" -}}
{{- len .nodes -}}
{{- else if eq .gateway.kind "cilium" -}}
{{- len .addresses -}}
{{- else -}}
1
{{- end -}}
{{- end -}}
