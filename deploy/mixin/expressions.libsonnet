// Changes selectors and labels in PromQL. It needs no grammar, because the names that it changes have a form of their own,
// and it works with whole strings, because Jsonnet is slow with single characters.
function(config)
  local labels = { cluster: config.clusterLabel, node: config.nodeLabel };
  local renamed = std.filter(function(label) labels[label] != label, std.objectFields(labels));

  // Each pair [a, b]: a becomes b.
  local replaced(text, pairs) = std.foldl(function(made, pair) std.strReplace(made, pair[0], pair[1]), pairs, text);

  // A label in a list or a matcher, and as an argument of label_replace. The value of a matcher stays: role="node".
  local labelPairs = [
    [before + label + after, before + labels[label] + after]
    for label in renamed
    for before in ['(', '{', ' ', ',']
    for after in [')', ',', '=', '!']
  ] + [[', "%s"' % label, ', "%s"' % labels[label]] for label in renamed];

  // The name that a text begins with, the character after it, and the rest.
  local ends = ['{', '(', ')', '[', ',', ' ', '\n', ':'];
  local named(text) =
    local cut = [std.splitLimit(text, end, 1) + [end] for end in ends];
    local found = std.filter(function(parts) std.length(parts) == 3, cut);
    std.foldl(function(least, parts) if std.length(parts[0]) < std.length(least[0]) then parts else least, found, [text, '', '']);

  // Recorded series (with a colon) have none of a target's labels but the cluster and the node.
  local selected(text) =
    local parts = named(text);
    local name = parts[0], rest = parts[1], end = parts[2];
    if end == ':' then text
    else if end != '{' then '%s{%s}%s%s' % [name, config.selector, end, rest]
    else '%s{%s%s%s' % [name, config.selector, if std.startsWith(rest, '}') then '' else ', ', rest];
  local withSelector(text) =
    local up = replaced(' ' + text, [[before + 'up{', '%sup{%s, ' % [before, config.selector]] for before in [' ', '(']]);
    local parts = std.split(up[1:], 'dualstack_');
    parts[0] + std.join('', [
      'dualstack_' + if std.endsWith(parts[i - 1], ':') then parts[i] else selected(parts[i])
      for i in std.range(1, std.length(parts) - 1)
    ]);

  {
    // An expression, or the query of a dashboard variable.
    query(text)::
      local made = if config.selector == '' then text else withSelector(text);
      local job = if config.jobPattern == '.*dualstack-exporter.*' then [] else [['".*dualstack-exporter.*"', '"%s"' % config.jobPattern]];
      replaced(made, labelPairs + job),

    // A template of an annotation.
    template(text):: replaced(text, [
      [before + label + after, before + labels[label] + after]
      for label in renamed
      for before in ['$labels.', '{', ',']
      for after in if before == '$labels.' then [''] else ['=%q']  // matchers of the query that looks for names
    ]),

    // The names of a graph's series.
    legend(text):: replaced(text, [['{{%s}}' % label, '{{%s}}' % labels[label]] for label in renamed]),

    // An object whose keys are labels.
    byLabel(object)::
      if renamed == [] then object
      else { [if std.member(renamed, key) then labels[key] else key]: object[key] for key in std.objectFields(object) },
  }
