// What can be set. The defaults give exactly alerts/dualstack.yaml and grafana/*.json.
{
  _config+:: {
    // Further matchers for every series of the exporter and for `up`, such as 'environment="prod"'.
    selector: '',
    // What the scrape job is called: the pattern of the label job of `up`.
    jobPattern: '.*dualstack-exporter.*',
    // The target labels that name the cluster and the node. Dashboard variables keep their names.
    clusterLabel: 'cluster',
    nodeLabel: 'node',

    // Labels that every alert gets.
    alertLabels: {},
    // The age in seconds from which a fault is alerted, by the name of an alert or of a group: {DualstackIpv6Down: 120,
    // 'dualstack-pod': 3600}. Critical faults still page sooner, as place:dualstack_fault_urgent:age says.
    delays: {},
    // keep_firing_for, in the same way: {DualstackExporterAbsent: '30m'}.
    keepFiringFor: {},
    // The severity that an alert has always, by its name: {DualstackIpv4Down: 'warning'}. The others have that of their fault.
    severities: {},
    // Names of alerts to leave out.
    disabledAlerts: [],

    // Where runbooks are: what stands before and after the name of an alert. null: as in the rules.
    runbookBase: null,
    runbookSuffix: '.md',

    // Fields of every dashboard: {refresh: '1m', timezone: 'utc', tags: ['network']}.
    dashboard: {},
  },
}
