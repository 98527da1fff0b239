"""The dashboard in CloudWatch, from the list of `cdk/panels.py`."""

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from cdk.fleet import Schedules
from cdk.functions import Functions
from cdk.orchestration import StateMachine
from cdk.panels import DIMENSIONS, Panel, Series, panels

_WIDTH = 12
"""Half of a row."""


class Dashboard(Construct):
    """The dashboard, named as the stack."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        stack: str,
        functions: Functions,
        machine: StateMachine,
        schedules: Schedules,
    ) -> None:
        super().__init__(scope, construct_id)
        self._stack = stack
        self._functions = {step: function.function_name for step, function in functions.by_step.items()}
        self._owners = {
            "stack": stack,
            "machine": machine.machine.state_machine_arn,
            "fleet": schedules.fleet.machine.state_machine_arn,
            "queue": schedules.dead_letters.queue_name,
        }
        # Its id keeps the name in the template that the dashboard has had: one with a new name there would be deleted.
        dashboard = cloudwatch.Dashboard(self, "Default", dashboard_name=stack)
        dashboard.add_widgets(*(self._graph(panel) for panel in panels()))

    def _graph(self, panel: Panel) -> cloudwatch.GraphWidget:
        return cloudwatch.GraphWidget(
            title=panel.title,
            left=[self._metric(s) for s in panel.series if not s.function or s.function in self._functions],
            left_y_axis=cloudwatch.YAxisProps(label=panel.unit, show_units=False, min=0),
            width=_WIDTH,
        )

    def _metric(self, series: Series) -> cloudwatch.Metric:
        namespace, dimension = DIMENSIONS[series.owner]
        owner = self._functions[series.function] if series.function else self._owners[series.owner]
        return cloudwatch.Metric(
            namespace=namespace.format(stack=self._stack),
            metric_name=series.metric,
            dimensions_map={dimension: owner} if series.has_dimension else None,
            statistic=series.statistic,
            period=Duration.seconds(series.period_seconds),
            label=series.label,
        )
