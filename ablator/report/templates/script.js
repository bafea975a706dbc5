"use strict";
(() => {
  const page = document.documentElement;
  const wide = matchMedia("screen and (min-width: 48rem)");
  page.classList.add("script");

  // Light or dark, as long as the page is open.
  const theme = document.createElement("button");
  theme.type = "button";
  theme.className = "theme";
  const isDark = () => page.dataset.theme
    ? page.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.title = `Switch to ${isDark() ? "light" : "dark"}`; };
  theme.addEventListener("click", () => { page.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
  nameTheme();
  document.body.prepend(theme);

  // Tabs where there is room, else links to the parts, which then stand below each other.
  const studies = [...document.querySelectorAll(".study")].map((study) => {
    const nav = study.querySelector(".tabs");
    const links = nav ? [...nav.querySelectorAll("a")] : [];
    const panels = links.map((link) => document.getElementById(link.hash.slice(1)));
    const show = (index) => {
      panels.forEach((panel, other) => panel.classList.toggle("shown", other === index));
      links.forEach((link, other) => {
        link.classList.toggle("current", other === index);
        if (wide.matches) {
          link.setAttribute("aria-selected", String(other === index));
          link.tabIndex = other === index ? 0 : -1;
        }
      });
    };
    const arrange = () => {
      const current = Math.max(0, panels.findIndex((panel) => panel.classList.contains("shown")));
      const roles = (element, values) => Object.entries(values).forEach(([name, value]) => {
        if (wide.matches) element.setAttribute(name, value); else element.removeAttribute(name);
      });
      if (!nav) return;
      roles(nav, { role: "tablist" });
      links.forEach((link, index) => {
        link.id = `${panels[index].id}-tab`;
        roles(link, { role: "tab", "aria-controls": panels[index].id, "aria-selected": "false", tabindex: "-1" });
        roles(panels[index], { role: "tabpanel", "aria-labelledby": link.id });
      });
      show(current);
    };
    links.forEach((link, index) => {
      link.addEventListener("click", (event) => {
        if (!wide.matches) return;
        event.preventDefault();
        history.replaceState(null, "", link.hash);
        show(index);
      });
      link.addEventListener("keydown", (event) => {
        const steps = { ArrowRight: 1, ArrowLeft: -1 };
        if (!wide.matches || !(event.key in steps)) return;
        event.preventDefault();
        const next = (index + steps[event.key] + links.length) % links.length;
        links[next].focus();
        show(next);
      });
    });
    arrange();
    wide.addEventListener("change", arrange);
    return { panels, show };
  });
  const follow = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (const { panels, show } of studies) {
      const index = panels.findIndex((panel) => panel.contains(target));
      if (index >= 0) { show(index); target.scrollIntoView(); }
    }
  };
  addEventListener("hashchange", follow);
  follow();

  // Commands are there to be copied; where the browser does not let a page do that, the text is selected.
  for (const command of document.querySelectorAll("pre.command")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    const place = document.createElement("div");
    place.className = "copied";
    command.replaceWith(place);
    place.append(command, button);
    let timer = 0;
    const say = (text) => {
      button.textContent = text;
      clearTimeout(timer);
      timer = setTimeout(() => { button.textContent = "Copy"; }, 2000);
    };
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(command.textContent);
        say("Copied");
      } catch {
        getSelection().selectAllChildren(command);
        say("Selected");
      }
    });
  }

  // A fade at the side on which more of a wide table can be scrolled to.
  const hint = (box) => {
    const left = box.scrollWidth - box.clientWidth - box.scrollLeft;
    box.classList.toggle("more", left > 2);
  };
  const widths = new ResizeObserver((entries) => entries.forEach(({ target }) => hint(target)));
  for (const box of document.querySelectorAll(".scroll")) {
    box.addEventListener("scroll", () => hint(box), { passive: true });
    widths.observe(box);
  }

  // Sorting: up, down, and back to the study's own order; what has no number stays last.
  const number = (cell) => {
    if (cell.classList.contains("state")) return null;
    const found = cell.textContent.replaceAll("\u2212", "-").replaceAll(",", "").match(/[-+]?\d+(\.\d+)?(e[-+]?\d+)?/);
    return found ? Number(found[0]) : null;
  };
  const text = (cell) => cell.textContent.trim() || null;
  const sortBy = (bodies, column, way, read, compare) => {
    for (const { body, rows } of bodies) {
      const keyed = rows.map((row, index) => ({ row, index, key: read(row.cells[column]) }));
      if (way) keyed.sort((a, b) => {
        if ((a.key === null) !== (b.key === null)) return a.key === null ? 1 : -1;
        return (a.key === null ? 0 : way * compare(a.key, b.key)) || a.index - b.index;
      });
      body.append(...keyed.map(({ row }) => row));
    }
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    const bodies = [...table.tBodies].map((body) => ({ body, rows: [...body.rows].filter((row) => !row.classList.contains("group")) }));
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      const numeric = head.classList.contains("number");
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        // Of numbers the large ones first: that is what most look for.
        const order = numeric ? ["descending", "ascending", null] : ["ascending", "descending", null];
        const next = order[(order.indexOf(before) + 1) % order.length];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (next) head.setAttribute("aria-sort", next);
        const way = next === "ascending" ? 1 : next === "descending" ? -1 : 0;
        const compare = numeric ? (a, b) => a - b : (a, b) => a.localeCompare(b, undefined, { numeric: true });
        sortBy(bodies, column, way, numeric ? number : text, compare);
      });
    });
  }
})();
