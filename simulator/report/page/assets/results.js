"use strict";
// The table of results: sorted by a header, filtered by words, one row for a variant or for every run.
(() => {
  const { data, id, known, show, runsOf, summary, element, column, UNKNOWN } = Report;
  const FIRST_ROWS = 200;
  const TARGET = "target";
  let sorted = { key: null, descending: false };
  let all = false;

  const texts = data.columns.filter((each) => each.kind === "text");
  const several = data.groups.some((group) => group.runs > 1);

  // Columns as they are now: what the runs have, and where they reach the target.
  function columns() {
    const reaching = Report.reaching ? Report.reaching() : null;
    if (!reaching) return data.columns;
    const place = data.columns.findIndex((each) => each.key === "simulated_seconds") + 1;
    return [...data.columns.slice(0, place), { key: TARGET, ...reaching }, ...data.columns.slice(place)];
  }

  function rows(byRun) {
    if (byRun) {
      return data.runs.group.map((group, run) => ({ group, name: data.groups[group].name, runs: [run], seed: data.runs.seed[run] }));
    }
    return data.groups.map((each, group) => ({ group, name: each.name, runs: runsOf[group], seed: null }));
  }

  function cell(row, of) {
    if (of.kind === "text") return { text: of.values[row.runs[0]], value: of.values[row.runs[0]] };
    const own = summary(row.runs.map((run) => of.values[run]));
    if (own.mean === null) return { text: absent(row, of), value: null };
    const notes = [];
    if (own.half > 0) notes.push(`\u00b1 ${show(of.kind, own.half)}`);
    if (own.count < row.runs.length) notes.push(`${own.count} of ${row.runs.length}`);
    const baseline = data.groups[row.group].baseline;
    if (of.relative && row.seed === null && baseline !== null) {
      const base = summary(runsOf[baseline].map((run) => of.values[run]));
      const all = own.count === row.runs.length && base.count === runsOf[baseline].length; // else it would be of the lucky ones
      if (base.mean && all) notes.push(`${(own.mean / base.mean).toFixed(2)}\u00d7`);
    }
    return { text: show(of.kind, own.mean), value: own.mean, note: notes.join(", ") };
  }

  function absent(row, of) {
    if (of.key === TARGET) return row.runs.some((run) => data.curves[run]) ? "not reached" : UNKNOWN;
    const trained = row.runs.some((run) => data.curves[run]);
    return of.key === "final_perplexity" && trained ? "diverged" : UNKNOWN;
  }

  const words = () => id("find-result").value.toLowerCase().split(/\s+/).filter(Boolean);
  function matches(row, wanted) {
    const text = [data.groups[row.group].label, ...texts.map((of) => of.values[row.runs[0]]), row.seed === null ? "" : `seed ${row.seed}`];
    const joined = text.join(" ").toLowerCase();
    return wanted.every((word) => joined.includes(word));
  }

  const natural = new Intl.Collator("en", { numeric: true }).compare;
  function compare(a, b) {
    const unknown = (value) => value === null || value === undefined;
    if (unknown(a) || unknown(b)) return unknown(a) - unknown(b); // last, whichever the direction
    const order = typeof a === "number" ? a - b : natural(a, b);
    return sorted.descending ? -order : order;
  }

  function header(label, key, kind, about) {
    const direction = sorted.key === key ? (sorted.descending ? "descending" : "ascending") : "none";
    const button = element("button", { type: "button", title: about || "" }, label);
    button.addEventListener("click", () => {
      sorted = { key, descending: sorted.key === key && !sorted.descending };
      render();
      id("results-table").querySelector(`th[data-key="${CSS.escape(key)}"] button`).focus();
    });
    return element("th", { scope: "col", "aria-sort": direction, "data-key": key, class: kind === "text" ? "text" : "" }, button);
  }

  function render() {
    const byRun = id("by-run").checked;
    const found = columns();
    const wanted = words();
    const every = rows(byRun);
    const chosen = every.filter((row) => matches(row, wanted));
    if (sorted.key !== null) {
      const of = found.find((each) => each.key === sorted.key);
      const value = (row) => (sorted.key === "name" ? row.name : sorted.key === "seed" ? row.seed : of ? cell(row, of).value : null);
      const values = new Map(chosen.map((row) => [row, value(row)]));
      chosen.sort((a, b) => compare(values.get(a), values.get(b)));
    }
    const limit = all || Report.state.printing ? chosen.length : FIRST_ROWS;
    const titles = [header("variant", "name", "text"), ...(byRun ? [header("seed", "seed", "count")] : [])];
    titles.push(...found.map((of) => header(of.label, of.key, of.kind, of.about)));
    const body = element("tbody");
    for (const row of chosen.slice(0, limit)) body.append(line(row, found, byRun));
    id("results-table").replaceChildren(element("thead", {}, element("tr", {}, ...titles)), body);
    id("results-count").textContent = chosen.length < every.length ? `${chosen.length.toLocaleString("en-US")} of ${every.length.toLocaleString("en-US")} rows` : `${every.length.toLocaleString("en-US")} rows`;
    id("more-results").hidden = chosen.length <= limit;
    id("more-results").textContent = `Show all ${chosen.length.toLocaleString("en-US")} rows`;
  }

  function line(row, found, byRun) {
    const own = element("tr", {}, element("th", { scope: "row" }, row.name));
    if (byRun) own.append(element("td", {}, String(row.seed)));
    else if (several && row.runs.length > 1) own.firstChild.append(element("small", { class: "runs" }, ` n\u00a0=\u00a0${row.runs.length}`));
    for (const of of found) {
      const { text, note } = cell(row, of);
      const made = element("td", of.kind === "text" ? { class: "text" } : {}, text);
      if (note) made.append(element("small", {}, note));
      own.append(made);
    }
    return own;
  }

  const quoted = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };

  // One line for every run of the rows that are found, numbers as they are.
  function csv() {
    const wanted = words();
    const found = columns();
    const lines = [["variant", "seed", ...found.map((of) => (of.key === TARGET ? of.label : of.key))]];
    for (const row of rows(true)) {
      if (!matches(row, wanted)) continue;
      lines.push([row.name, row.seed, ...found.map((of) => of.values[row.runs[0]])]);
    }
    return lines.map((each) => each.map(quoted).join(",")).join("\r\n") + "\r\n";
  }

  function download() {
    const address = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    const link = element("a", { href: address, download: "results.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  function note() {
    const parts = [];
    if (several) parts.push("\u00b1 is half the range over n runs.");
    if (data.groups.some((group) => group.baseline !== null)) {
      const names = [...new Set(data.groups.map((group) => group.baseline).filter((index) => index !== null).map((index) => data.groups[index].name))];
      parts.push(`\u00d7 is relative to ${names.length < 4 ? names.join(" or ") : "the baseline"} of the same sweep point.`);
    }
    if (column("local_steps").relative) parts.push("The work is not equal where local steps have a factor: other factors tell of that too.");
    parts.push("The CSV file has one line for every run.");
    id("results-note").textContent = parts.join(" ");
  }

  Report.csv = csv;
  Report.results = render;
  Report.state.sections.results = () => {
    id("by-run").parentElement.hidden = !several;
    id("find-result").addEventListener("input", render);
    id("by-run").addEventListener("change", render);
    id("download").addEventListener("click", download);
    id("more-results").addEventListener("click", () => {
      all = true;
      render();
    });
    note();
    render();
  };
})();
