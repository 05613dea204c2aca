{{/* The name of the DaemonSet and of everything that belongs to it. */}}
{{- define "dualstack-exporter.fullname" -}}
{{- $release := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) }}
{{- .Values.fullnameOverride | default $release | trunc 48 | trimSuffix "-" }}
{{- end }}

{{- define "dualstack-exporter.namespace" -}}
{{ .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "dualstack-exporter.account" -}}
{{ .Values.serviceAccount.name | default (include "dualstack-exporter.fullname" .) }}
{{- end }}

{{- define "dualstack-exporter.image" -}}
{{- with .Values.image }}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* Helm's own labels of every object. app.kubernetes.io/name is how nodes and rules find the exporter: it is fixed. */}}
{{- define "dualstack-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Where links to runbooks begin: the value, or the release's own Service. clusterOnly has only that of the Deployment. */}}
{{- define "dualstack-exporter.runbooks" -}}
{{- $service := print (include "dualstack-exporter.fullname" .) (ternary "-cluster" "" .Values.clusterOnly) }}
{{- $own := printf "http://%s.%s.svc:10046/runbooks" $service (include "dualstack-exporter.namespace" .) }}
{{- dig "runbooks" "url" "" (.Values.config | default dict) | default $own | trimSuffix "/" }}/
{{- end }}

{{/* The configuration file: the value `config`, and where nodes fetch the digest and links to runbooks begin. */}}
{{- define "dualstack-exporter.config" -}}
{{- $host := printf "%s-cluster.%s.svc" (include "dualstack-exporter.fullname" .) (include "dualstack-exporter.namespace" .) }}
{{- $url := ternary "" (printf "http://%s:10046/api/v1/digest" $host) .Values.nodeLists }}
{{- $config := mergeOverwrite (dict "digest" (dict "url" $url)) (.Values.config | default dict) }}
{{- toYaml (set $config "runbooks" (dict "url" (include "dualstack-exporter.runbooks" .))) }}
{{- end }}

{{/* The start of `metadata` in a pod template. */}}
{{- define "dualstack-exporter.pod" -}}
labels:
  app.kubernetes.io/name: dualstack-exporter
  app.kubernetes.io/component: {{ .component }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  dualstack-exporter/config-hash: {{ include "dualstack-exporter.config" .root | printf "%s\n" | sha256sum | trunc 16 | quote }}
  {{- with .values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Where pods of a role run. */}}
{{- define "dualstack-exporter.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Both probes of an exporter. */}}
{{- define "dualstack-exporter.probes" -}}
livenessProbe:
  httpGet: {path: /-/healthy, port: metrics}
  periodSeconds: 20
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /-/ready, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{/* Only the exporter's container mounts the token. */}}
{{- define "dualstack-exporter.token" -}}
- name: token
  projected:
    defaultMode: 0444
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}

{{/*
The objects of a file of files/, which `make chart` copies from the source tree: under this release's names, namespace
and labels. root: the chart; file; labels: further ones; without: kinds that are left out where they are the DaemonSet's,
which bear the full name itself. Service accounts have a template of their own.
*/}}
{{- define "dualstack-exporter.objects" -}}
{{- $root := .root }}
{{- $name := include "dualstack-exporter.fullname" $root }}
{{- $namespace := include "dualstack-exporter.namespace" $root }}
{{- $account := include "dualstack-exporter.account" $root }}
{{- $text := $root.Files.Get (printf "files/%s" .file) }}
{{- $text = $text | replace "serviceaccount:dualstack-exporter:dualstack-exporter" (printf "serviceaccount:%s:%s" $namespace $account) }}
{{- $text = $text | replace "namespace: dualstack-exporter" (printf "namespace: %s" $namespace) }}
{{- $text = regexReplaceAll "(?m)(Role, |^ +)name: dualstack-exporter" $text (printf "${1}name: %s" $name) }}
{{- $text = $text | replace "ServiceAccount, name: dualstack-exporter" (printf "ServiceAccount, name: %s" $account) }}
{{- $text = $text | replace "kubectl -n dualstack-exporter " (printf "kubectl -n %s " $namespace) }}
{{- $text = $text | replace "deploy/dualstack-exporter-cluster" (printf "deploy/%s-cluster" $name) }}
{{- $text = regexReplaceAll ` runbook_url: \S+/` $text (printf " runbook_url: %s" (include "dualstack-exporter.runbooks" $root | replace "$" "$$")) }}
{{- range regexSplit "(?m)^---$" $text -1 }}
{{- $object := fromYaml . }}
{{- $without := and (eq $object.metadata.name $name) (has $object.kind ($.without | default list)) }}
{{- if not (or $without (eq $object.kind "ServiceAccount")) }}
{{- $own := dict "app.kubernetes.io/name" "dualstack-exporter" }}
{{- $labels := merge (include "dualstack-exporter.labels" $root | fromYaml) ($.labels | default dict) $own }}
{{- $_ := set $object.metadata "labels" $labels }}
---
{{ toYaml $object }}
{{- end }}
{{- end }}
{{- end }}
