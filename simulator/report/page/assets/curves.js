"use strict";
// The curves: mean and range over the runs of every variant that is shown, against an axis that can be chosen.
(() => {
  const { data, id, known, show, unit, runsOf, look, shown, setShown, plain, element, column, sample } = Report;
  const MOST_POINTS = 400; // of a mean
  const trained = data.axes.length > 0;
  const axis = () => data.axes.find((each) => each.key === id("x-axis").value);
  const yKey = () => id("y-axis").value;

  // One run's x and loss; of several losses at one x the last.
  function points(run, key) {
    const curve = data.curves[run];
    if (!curve) return null;
    const along = curve.x[key];
    const steps = curve.x.local_steps;
    const x = [];
    const loss = [];
    for (let i = 0; i < curve.loss.length; i += 1) {
      const own = typeof along === "number" ? along * steps[i] : along[i];
      if (!known(own)) continue;
      if (x.length && x[x.length - 1] === own) {
        loss[loss.length - 1] = curve.loss[i];
        continue;
      }
      x.push(own);
      loss.push(curve.loss[i]);
    }
    return { x, loss, diverged: curve.diverged };
  }

  // The value at x of a line through points with ascending x, which cover it.
  function interpolated({ x, loss }, grid) {
    let i = 1;
    return grid.map((at) => {
      while (i < x.length - 1 && x[i] < at) i += 1;
      if (x.length === 1 || at <= x[0]) return loss[0];
      const share = (at - x[i - 1]) / (x[i] - x[i - 1]);
      return loss[i - 1] + Math.min(share, 1) * (loss[i] - loss[i - 1]);
    });
  }

  function thinned(values) {
    if (values.length <= MOST_POINTS) return values;
    const step = (values.length - 1) / (MOST_POINTS - 1);
    return Array.from({ length: MOST_POINTS }, (_, i) => values[Math.round(i * step)]);
  }

  // Mean and range of a group where all its runs have values; interpolated linearly in the loss.
  function curveOf(group, key) {
    const runs = runsOf[group].map((run) => points(run, key)).filter((each) => each && each.x.length);
    if (!runs.length) return null;
    const low = Math.max(...runs.map(({ x }) => x[0]));
    const high = Math.min(...runs.map(({ x }) => x[x.length - 1]));
    if (low > high) return { x: [], mean: [], low: [], high: [], runs, apart: true };
    const union = [...new Set(runs.flatMap(({ x }) => x))].filter((x) => x >= low && x <= high).sort((a, b) => a - b);
    const grid = runs.length > 1 ? thinned(union) : union;
    const transform = yKey() === "loss" ? (value) => value : Math.exp;
    const values = runs.map((run) => interpolated(run, grid).map(transform));
    const over = (combine) => grid.map((_, i) => combine(values.map((each) => each[i])));
    return {
      x: grid,
      mean: over((each) => each.reduce((a, b) => a + b, 0) / each.length),
      low: over((each) => Math.min(...each)),
      high: over((each) => Math.max(...each)),
      runs,
      apart: false,
    };
  }

  function traces(chosen, curves, key, scale) {
    const made = [];
    const kind = chosen.kind;
    for (const [group, curve] of curves) {
      const { color, dash, symbol } = look(group);
      const x = curve.x.map((value) => value / scale.size);
      const name = plain(data.groups[group].label);
      if (id("bands").checked && curve.runs.length > 1 && !curve.apart) {
        const edge = { x, mode: "lines", line: { width: 0, color }, hoverinfo: "skip", type: "scatter" };
        made.push({ ...edge, y: curve.low }, { ...edge, y: curve.high, fill: "tonexty", fillcolor: `${color}2e` });
      }
      if (id("each-run").checked || curve.apart) {
        for (const run of curve.runs) {
          const y = yKey() === "loss" ? run.loss : run.loss.map(Math.exp);
          made.push({
            x: run.x.map((value) => value / scale.size), y, mode: "lines", line: { width: 0.8, color }, opacity: 0.6, hoverinfo: "skip", type: "scatter",
          });
        }
      }
      made.push({
        x, y: curve.mean, name, type: "scatter", mode: x.length > 60 ? "lines" : "lines+markers",
        line: { color, dash, width: 2 }, marker: { color, symbol, size: 6, line: { width: 0.6, color: Report.colors().edge } },
        customdata: curve.x.map((value) => show(kind, value)),
        hovertemplate: `<b>%{fullData.name}</b><br>%{customdata}<br>${key} %{y:.4g}<extra></extra>`,
      });
    }
    return made;
  }

  function lines() {
    const found = [];
    const level = (value) => (yKey() === "loss" ? Math.log(value) : value);
    const rule = (value, dash, text) => {
      const color = Report.colors().muted;
      found.push({
        type: "line", xref: "paper", x0: 0, x1: 1, y0: level(value), y1: level(value), line: { color, width: 1.2, dash },
        label: { text, textposition: "start", yanchor: "bottom", font: { color, size: 11 } },
      });
    };
    const best = data.best === null ? null : Math.exp(data.best);
    if (best !== null) rule(best, "dot", `best possible ${show("perplexity", best)}`);
    const wanted = target();
    if (wanted !== null) rule(wanted, "dash", `target ${Report.significant(wanted, 4)}`);
    return found;
  }

  function draw() {
    const chosen = axis();
    const key = yKey();
    const curves = [...shown].sort((a, b) => a - b).map((group) => [group, curveOf(group, chosen.key)]).filter(([, curve]) => curve);
    const largest = Math.max(1e-9, ...curves.flatMap(([, curve]) => curve.runs.map(({ x }) => x[x.length - 1])));
    const scale = unit(chosen.kind, largest);
    Report.draw("curves-plot", traces(chosen, curves, key, scale), {
      height: window.innerWidth < 640 && !Report.state.printing ? 380 : 470,
      margin: { l: 58, r: 16, t: 12, b: 48 },
      hovermode: "closest",
      xaxis: {
        title: { text: scale.name ? `${chosen.label} (${scale.name})` : chosen.label },
        type: id("log-x").checked ? "log" : "linear", rangemode: "normal",
      },
      yaxis: {
        title: { text: `validation ${key}` }, type: id("log-y").checked ? "log" : "linear", nticks: 9,
      },
      shapes: lines(),
    });
    notes(curves);
  }

  // Whether a run that did not diverge goes on for long behind the end of the mean.
  function isCut(curve) {
    return Math.max(...curve.runs.filter(({ diverged }) => !diverged).map(({ x }) => x[x.length - 1])) > 1.05 * curve.x[curve.x.length - 1];
  }

  function notes(curves) {
    const parts = [];
    if (curves.some(([, curve]) => curve.runs.length > 1)) {
      parts.push("Lines are means over the runs that differ by their seed alone, bands reach from the smallest to the largest.");
    }
    const diverged = curves.map(([group]) => [group, runsOf[group].filter((run) => data.curves[run] && data.curves[run].diverged).length]).filter(([, count]) => count);
    for (const [group, count] of diverged) {
      parts.push(`${data.groups[group].label}: ${count} of ${runsOf[group].length} diverged, and its curve ends before.`);
    }
    const cut = curves.filter(([, curve]) => !curve.apart && isCut(curve)).map(([group]) => data.groups[group].label);
    if (cut.length) parts.push(`The mean of ${cut.join(" and ")} ends with the shortest of its runs.`);
    const apart = curves.filter(([, curve]) => curve.apart).map(([group]) => data.groups[group].label);
    if (apart.length) parts.push(`The runs of ${apart.join(" and ")} have no range in common, so there is no mean.`);
    if (data.thinned) parts.push(`Of every run at most ${data.thinned} evaluations are in this page, evenly spaced.`);
    id("curves-note").textContent = parts.join(" ");
  }

  function target() {
    const value = Number(id("target").value);
    return value > 0 ? value : null;
  }

  // Where every run first reaches the target on the axis that is chosen: a column of the results, null without one.
  Report.reaching = () => {
    const wanted = trained ? target() : null;
    if (wanted === null) return null;
    const chosen = axis();
    const level = Math.log(wanted);
    const values = data.curves.map((_, run) => {
      const own = points(run, chosen.key);
      const first = own ? own.loss.findIndex((loss) => loss <= level) : -1;
      if (first < 1) return first < 0 ? null : own.x[0];
      const share = (own.loss[first - 1] - level) / (own.loss[first - 1] - own.loss[first]);
      return own.x[first - 1] + share * (own.x[first] - own.x[first - 1]);
    });
    const label = `${chosen.label.split(",")[0]} to perplexity ${Report.significant(wanted, 4)}`;
    return { label, kind: chosen.kind, about: "first reached, interpolated between evaluations", relative: true, values };
  };

  // What all runs of the baseline reach in the end is a target that makes variants comparable.
  function usualTarget() {
    const final = column("final_perplexity");
    const baseline = data.groups.map((group) => group.baseline).find((index) => index !== null);
    if (!final || baseline === undefined) return null;
    const reached = runsOf[baseline].map((run) => final.values[run]).filter(known);
    return reached.length ? Math.ceil(Math.max(...reached) * 100) / 100 : null;
  }

  const MOST_LISTED = 100;
  const MOST_SHOWN = 36; // that can be told apart
  function list() {
    const wanted = id("find-variant").value.toLowerCase();
    const found = data.groups.map((_, group) => group).filter((group) => data.groups[group].label.toLowerCase().includes(wanted));
    const listed = [...found.filter((group) => shown.has(group)), ...found.filter((group) => !shown.has(group))].slice(0, MOST_LISTED);
    const many = data.groups.length > 12;
    const ordered = many ? listed : listed.sort((a, b) => a - b);
    id("variants").replaceChildren(...ordered.map((group) => {
      const box = element("input", { type: "checkbox", value: String(group) });
      box.checked = shown.has(group);
      box.addEventListener("change", () => {
        const next = new Set(shown);
        if (box.checked) next.add(group);
        else next.delete(group);
        setShown(next);
        id("variants").querySelector(`input[value="${group}"]`)?.focus();
      });
      return element("label", {}, box, ...(shown.has(group) ? [sample(group)] : []), element("span", {}, data.groups[group].label));
    }));
    id("variants").closest("fieldset").classList.toggle("few", !many);
    const left = found.length - listed.length;
    id("shown-count").textContent = `${shown.size} of ${data.groups.length} shown${left > 0 ? `; ${left} more are found, narrow the search` : ""}`;
    return found;
  }

  Report.list = list;
  Report.state.listeners.push(list);
  list();
  id("show-all").textContent = data.groups.length > MOST_SHOWN ? `first ${MOST_SHOWN}` : "all";
  id("show-all").addEventListener("click", () => setShown(list().slice(0, MOST_SHOWN)));
  id("show-none").addEventListener("click", () => setShown([]));
  id("find-variant").addEventListener("input", list);
  Report.state.sections.curves = () => {
    Report.state.listeners.push(draw);
    for (const name of ["x-axis", "y-axis", "log-y", "log-x", "bands", "each-run"]) id(name).addEventListener("change", draw);
    id("x-axis").addEventListener("change", Report.results);
    id("target").addEventListener("input", () => {
      draw();
      Report.results();
    });
    Report.state.drawings.set("curves-plot", draw);
    draw();
  };

  if (trained) {
    id("x-axis").replaceChildren(...data.axes.map(({ key, label }) => element("option", { value: key }, label)));
    id("target").value = usualTarget() ?? "";
    const repeated = runsOf.some((runs) => runs.length > 1);
    for (const name of ["bands", "each-run"]) id(name).parentElement.hidden = !repeated;
  } else {
    id("curves").querySelectorAll(":scope > .controls").forEach((controls) => (controls.hidden = true));
    Report.state.sections.curves = () => {
      id("curves-plot").classList.add("nothing");
      id("curves-plot").textContent = "Nothing was trained, so there are no curves. What is chosen here is shown under Staleness.";
    };
  }
})();
