"""Ask for every row of a table once a day, and hold no worker while the batch runs."""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.sensors.bash import BashSensor

ASK = (
    'dobatch run "$TABLE" --prompt "Sentiment of: {text}" --model "$MODEL" --into sentiment --out "$ANSWERS" '
    "--no-wait --json"
)

with DAG("nightly_answers", schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False) as dag:
    submit = BashOperator(
        task_id="submit",
        # 75 is "not yet", which is all that this task is for. The last line of the output goes to XCom.
        bash_command=ASK + "; status=$?; [ $status = 75 ] || exit $status",
    )
    over = BashSensor(
        task_id="over",
        bash_command="dobatch wait {{ (ti.xcom_pull('submit') | fromjson).id }} --timeout 0",
        retry_exit_code=75,  # not yet; any other status but 0 fails the task
        mode="reschedule",  # no slot is held between two looks
        poke_interval=timedelta(minutes=10),
        timeout=timedelta(hours=26),
    )
    write = BashOperator(task_id="write", bash_command=ASK)

    submit >> over >> write


dag.user_defined_filters = {"fromjson": __import__("json").loads}
