"use strict";
// Filters and copies what stands in the page. Everything is read as text; nothing is made of it.
(() => {
  const byId = (id) => document.getElementById(id);
  const words = byId("words"), dataset = byId("dataset"), model = byId("model");
  const current = byId("current"), count = byId("count");
  const sections = [...document.querySelectorAll("section")].map((node) => ({
    node,
    name: node.dataset.dataset,
    cards: [...node.querySelectorAll("article")].map((card) => ({
      node: card,
      model: card.dataset.model,
      deprecated: "deprecated" in card.dataset,
      text: `${node.dataset.dataset} ${card.textContent}`.toLowerCase(),
    })),
  }));

  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const asked = wanted.length > 0 || model.value !== "" || current.checked;
    let shown = 0, all = 0;
    for (const section of sections) {
      let visible = 0;
      for (const card of section.cards) {
        const matches =
          (dataset.value === "" || section.name === dataset.value) &&
          (model.value === "" || card.model === model.value) &&
          !(current.checked && card.deprecated) &&
          wanted.every((word) => card.text.includes(word));
        card.node.hidden = !matches;
        visible += matches;
      }
      all += section.cards.length;
      shown += visible;
      const empty = section.cards.length === 0 && !asked;
      section.node.hidden =
        !(visible || empty) || (dataset.value !== "" && section.name !== dataset.value);
    }
    const noun = all === 1 ? "cache" : "caches";
    count.textContent = shown === all ? `${all} ${noun}` : `${shown} of ${all} ${noun}`;
  }

  function workspace() {
    const here = new URL("..", document.location.href);
    if (here.protocol === "file:") return decodeURIComponent(here.pathname).replace(/\/$/, "");
    return `${here.origin}${here.pathname}`.replace(/\/$/, "");
  }

  async function copy(button, pre) {
    const text = pre.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without a secure connection there is no clipboard but that of a selection.
      const range = document.createRange();
      range.selectNodeContents(pre);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    count.textContent = "Copied the lines";
    setTimeout(() => {
      button.textContent = "Copy";
      filter();
    }, 1500);
  }

  for (const box of document.querySelectorAll(".open")) {
    const pre = box.querySelector("pre"), button = box.querySelector("button");
    if ("here" in pre.dataset) {
      const code = pre.querySelector("code");
      code.textContent = code.textContent.replace('"WORKSPACE"', () => JSON.stringify(workspace()));
    }
    button.hidden = false;
    button.addEventListener("click", () => copy(button, pre));
  }
  byId("filters").hidden = false;
  byId("filters").addEventListener("input", filter);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      words.focus();
    } else if (event.key === "Escape" && document.activeElement === words) {
      words.value = "";
      filter();
    }
  });
  filter();
})();
