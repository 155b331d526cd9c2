"""Why a worker died, as far as Ray tells."""


def memory_report(whereabouts: str) -> str:
    """Return what Ray's memory monitor noted when it killed the worker at `whereabouts` ("node/pid"), "" if it did not.

    The caller of an actor that is restarted learns nothing of it ("The actor was restarted"). Ray's table of workers
    says it, but its public reader needs the dashboard; this one is private to the pinned version of Ray, so whatever
    goes wrong here only leaves the report out.
    """
    try:
        from ray._private.state import state
        from ray.core.generated.common_pb2 import NODE_OUT_OF_MEMORY
        from ray.core.generated.gcs_pb2 import WorkerTableData

        pid = int(whereabouts.rpartition("/")[2])
        table = map(WorkerTableData.FromString, state._connect_and_get_accessor().get_worker_table())
        dead = [worker for worker in table if worker.pid == pid and not worker.is_alive]
        last = max(dead, key=lambda worker: worker.end_time_ms)
        return last.exit_detail.splitlines()[0] if last.exit_type == NODE_OUT_OF_MEMORY else ""
    except Exception:
        return ""
