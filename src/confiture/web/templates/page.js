"use strict";
(() => {
  const main = () => document.getElementById("content");
  let loaded = Date.now();
  let lost = null;

  function buttons() {
    for (const button of document.querySelectorAll("button.copy")) button.hidden = false;
  }

  async function copy(button) {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      // Without a secure context there is no clipboard: the command is selected, to be copied by hand.
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.copy");
    if (button) copy(button);
  });

  function age() {
    const here = main();
    const foot = here.querySelector(".foot");
    const live = Boolean(here.dataset.refresh);
    const current = live && !here.querySelector("p.lost[role=alert]");
    const since = current ? (Date.now() - loaded) / 1000 : Math.max(0, (Date.now() - Date.parse(here.dataset.made)) / 1000);
    const silent = [...foot.querySelectorAll("[data-heartbeat=new]")].map((beat) => Number(beat.dataset.silent));
    const old = silent.some((seconds) => seconds + since > Number(here.dataset.lease));
    const words = since < 120 ? `${Math.round(since)} s` : since < 7200 ? `${Math.round(since / 60)} min` : since < 172800 ? `${(since / 3600).toFixed(1)} h` : `${Math.round(since / 86400)} days`;
    document.getElementById("age").textContent = `${words} ago.` + (lost ? ` ${lost}` : old && !live ? " The heartbeat is older than its lease by now: make the page again." : "");
    foot.classList.toggle("aged", old || lost !== null);
  }

  function kept() {
    return {
      open: [...document.querySelectorAll("details[id]")].filter((d) => d.open).map((d) => d.id),
      off: [...document.querySelectorAll("input[id]")].filter((i) => !i.checked).map((i) => i.id),
      focus: document.activeElement && document.activeElement.id,
    };
  }

  function put(page) {
    const state = kept();
    const next = page.getElementById("content");
    main().replaceWith(document.adoptNode(next));
    document.title = page.title;
    document.querySelector("link[rel=icon]").href = page.querySelector("link[rel=icon]").href;
    for (const id of state.open) { const d = document.getElementById(id); if (d) d.open = true; }
    for (const id of state.off) { const i = document.getElementById(id); if (i) i.checked = false; }
    if (state.focus && document.getElementById(state.focus)) document.getElementById(state.focus).focus({preventScroll: true});
  }

  async function refresh() {
    // An answer replaces what a reader is selecting or copying; that can wait for a minute.
    const busy = document.hidden || (String(getSelection()) !== "" && Date.now() - loaded < 60000);
    try {
      if (!busy) {
        const signal = AbortSignal.timeout(10000);
        const answer = await fetch(location.origin + location.pathname, {cache: "no-store", signal});
        if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
        put(new DOMParser().parseFromString(await answer.text(), "text/html"));
        buttons();
        loaded = Date.now();
        lost = null;
      }
    } catch (error) {
      lost = error instanceof TypeError || error.name === "TimeoutError" ? "The server of this page cannot be reached." : `${error.message}.`;
    }
    age();
    setTimeout(refresh, Number(main().dataset.refresh) * 1000);
  }

  document.addEventListener("visibilitychange", () => { if (!document.hidden) age(); });
  buttons();
  age();
  setInterval(age, 1000);
  if (main().dataset.refresh) setTimeout(refresh, Number(main().dataset.refresh) * 1000);
})();
