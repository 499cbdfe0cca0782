"""Work, use of time, data and money of one run, site by site."""

import numpy as np
import pandas as pd
from rich.table import Table

from simulator.host import format as human
from simulator.host.nodes import SERVER, region_of
from simulator.host.terminal_table import TerminalTable
from simulator.record import gives_prices, region_sites, sent_data, server_site, worker_costs, worker_sites
from simulator.report.arguments import Records, one_record
from simulator.report.group_keys import ReportError
from simulator.report.grouping import run_labels
from simulator.report.money import currency_of
from simulator.report.worker_bins import workers_of


def has_sites(record: Records) -> bool:
    """Returns whether the devices of a run have sites."""
    run = one_record(record)
    return worker_sites(run.experiment, run.summary["workers"]) is not None


def site_table(record: Records) -> pd.DataFrame:
    """Returns one row per site of a run, in the order of its workers.

    Data are those of messages that a worker of the site has sent, or got from a server, and those between its server
    and an upper one: the sum over all sites is what all have sent. What is paid for the server itself is of no site.

    Args:
        record: A run whose devices have sites.

    Returns:
        Columns site, workers, rounds, local_steps, utilization (computing, of the time that the record covers), wait
        (likewise), bytes, and, where the experiment gives prices, money of the workers, money of the data, and of both
        (workers_money, data_money, money).

    Raises:
        ReportError: If devices have no sites, or several runs are given.
    """
    run = one_record(record)
    count = run.summary["workers"]
    sites = worker_sites(run.experiment, count)
    if sites is None:
        label = run_labels(run)[0]
        raise ReportError(f"{label}: its devices have no sites: set cluster.devices.sites, or site of each accelerator")
    workers = workers_of(run).assign(site=sites)
    for name in ("compute", "wait"):
        workers[name] = (workers[name] * workers["covered_s"]).fillna(0.0)
    by_site = workers.groupby("site", sort=False)
    table = by_site[["rounds", "local_steps"]].sum()
    table.insert(0, "workers", by_site.size())
    for name, of in (("utilization", "compute"), ("wait", "wait")):
        table[name] = by_site[of].sum() / by_site["covered_s"].sum()
    sent = sent_data(run.experiment, run.rounds, run.transfers, run.faults, count)
    regions = region_sites(run.experiment, count)
    of_server = server_site(run.experiment) or sites[0]
    place = [
        sites[node] if node >= 0 else of_server if node == SERVER or not regions else regions[region_of(node)]
        for node in sent["node"].tolist()
    ]
    data = sent.assign(site=place).groupby("site")[["bytes", "cost"]].sum().reindex(table.index, fill_value=0)
    table["bytes"] = data["bytes"].astype("int64")
    if gives_prices(run.experiment):
        costs = worker_costs(run.experiment, run.faults, count, float(run.summary["simulated_seconds"]))
        paid = pd.Series(np.asarray(costs)).groupby(np.array(sites)).sum()
        table["workers_money"] = paid.reindex(table.index)
        table["data_money"] = data["cost"].astype(float)
        table["money"] = table["workers_money"] + table["data_money"]
    return table.reset_index()


def site_rich_table(record: Records, *, title: str | None = None) -> Table:
    """Returns `site_table` for a terminal.

    Args:
        record: A run whose devices have sites.
        title: Above the table; what the run is called when absent.

    Raises:
        ReportError: If devices have no sites, or several runs are given.
    """
    run = one_record(record)
    found = site_table(run)
    numbers = ["workers", "rounds", "local\nsteps", "compute", "wait", "data\nsent"]
    if "money" in found:
        currency = currency_of(run)
        numbers.append(f"money\n{currency}" if currency else "money")
    table = TerminalTable(title or run_labels(run)[0], words=["site"], numbers=numbers)
    for row in found.to_dict("records"):
        table.add_row(
            row["site"],
            *(human.count(row[name]) for name in ("workers", "rounds", "local_steps")),
            *(human.percent(row[name]) for name in ("utilization", "wait")),
            human.byte_count(row["bytes"]),
            *([human.amount(row["money"])] if "money" in row else []),
        )
    return table
