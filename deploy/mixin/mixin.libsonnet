// The rules and dashboards of dualstack-exporter as a monitoring mixin: prometheusRules, prometheusAlerts and
// grafanaDashboards. They are read from alerts/dualstack.yaml and grafana/*.json; config.libsonnet says what can be set.
local expressions = import 'expressions.libsonnet';

(import 'config.libsonnet') + {
  local config = $._config,
  local write = expressions(config),
  local groups = (import 'rules.json').groups,

  local setting(values, group, rule, default) =
    local found = if std.objectHas(values, rule.alert) then values[rule.alert] else if std.objectHas(values, group) then values[group] else default;
    if std.isObject(found) then std.get(found, std.get(std.get(rule, 'labels', {}), 'severity', ''), default) else found,

  // A misspelt name would be a setting without effect.
  local alertNames = std.set([rule.alert for group in groups for rule in group.rules if std.objectHas(rule, 'alert')]),
  local known(key, names, groupsToo=false) =
    local strange = std.setDiff(std.set(names), std.set(alertNames + if groupsToo then [group.name for group in groups] else []));
    if strange == [] then true else error '_config.%s: no alert is called %s' % [key, strange[0]],
  local checked =
    known('delays', std.objectFields(config.delays), true)
    && known('keepFiringFor', std.objectFields(config.keepFiringFor), true)
    && known('severities', std.objectFields(config.severities))
    && known('disabledAlerts', config.disabledAlerts),

  local delayed(rule, seconds) =
    local age = 'place:dualstack_fault:age >= ';
    local at = std.findSubstr(age, rule.expr);
    if seconds == null then rule.expr
    else if std.length(at) != 1 then error '_config.delays: %s has no delay' % rule.alert
    else
      local end = at[0] + std.length(age);
      '%s%d%s' % [rule.expr[:end], seconds, std.lstripChars(rule.expr[end:], '0123456789')],

  local runbook(url) =
    if config.runbookBase == null then url
    else config.runbookBase + std.strReplace(std.reverse(std.split(url, '/'))[0], '.md', '') + config.runbookSuffix,

  local alert(group, rule) =
    local severity = std.get(config.severities, rule.alert);
    local labels = std.get(rule, 'labels', {}) + config.alertLabels + (if severity == null then {} else { severity: severity });
    local keep = setting(config.keepFiringFor, group, rule, null);
    rule
    + { expr: write.query(delayed(rule, setting(config.delays, group, rule, null))) }
    + (if labels == {} then {} else { labels: labels })
    + (if keep == null then {} else { keep_firing_for: keep })
    + {
      annotations: { [key]: write.template(rule.annotations[key]) for key in std.objectFields(rule.annotations) }
                   + { runbook_url: runbook(rule.annotations.runbook_url) },
    },

  local rulesOf(group) = [
    if std.objectHas(rule, 'alert') then alert(group.name, rule) else rule { expr: write.query(rule.expr) }
    for rule in group.rules
    if !std.objectHas(rule, 'alert') || !std.member(config.disabledAlerts, rule.alert)
  ],
  local recording(group) = std.length([rule for rule in group.rules if std.objectHas(rule, 'record')]) > 0,
  local written(recordings) = [
    group { rules: rulesOf(group) }
    for group in groups
    if checked && recording(group) == recordings && rulesOf(group) != []
  ],

  prometheusRules+:: { groups+: written(true) },
  prometheusAlerts+:: { groups+: written(false) },

  local variable(each) =
    each + { [field]: write.query(each[field]) for field in ['query', 'definition'] if each.type == 'query' },
  local target(each) =
    each { expr: write.query(each.expr) }
    + (if std.objectHas(each, 'legendFormat') then { legendFormat: write.legend(each.legendFormat) } else {}),
  local transformation(each) =
    each { options: { [key]: write.byLabel(each.options[key]) for key in std.objectFields(each.options) } },
  local override(each) = each {
    properties: [
      if property.id != 'links' then property
      else property {
        value: [if std.startsWith(link.url, 'http') then link { url: runbook(link.url) } else link for link in property.value],
      }
      for property in each.properties
    ],
  },
  local panel(each) =
    if each.type == 'row' then each
    else each { targets: std.map(target, each.targets) }
         + (if each.type == 'table' then { transformations: std.map(transformation, each.transformations) } else {})
         + (if config.runbookBase == null then {}
            else { fieldConfig: each.fieldConfig { overrides: std.map(override, each.fieldConfig.overrides) } }),
  local dashboard(board) = board {
    annotations: { list: [each { expr: write.query(each.expr) } for each in board.annotations.list] },
    templating: { list: std.map(variable, board.templating.list) },
    panels: std.map(panel, board.panels),
  } + config.dashboard,

  grafanaDashboardFolder:: 'Dual-stack',
  grafanaDashboards+:: std.mapWithKey(function(_, board) dashboard(board), {
    'fleet.json': import '../../grafana/fleet.json',
    'node.json': import '../../grafana/node.json',
    'dns.json': import '../../grafana/dns.json',
    'cluster.json': import '../../grafana/cluster.json',
  }),
}
