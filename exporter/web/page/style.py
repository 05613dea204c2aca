"""The text of the page's one <style> element, which the server allows by its hash. The page loads nothing.

Signs and words carry the meaning; colours (contrast 4.5:1 and more, light and dark) only repeat it.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f5f6f8; --card: #fff; --line: #d9dde3; --text: #1a1f26; --soft: #57606a; --code: #eef0f3; --link: #0b57d0;
  --good: #1a7f37; --good-soft: #e3f4e7; --bad: #b3261e; --bad-soft: #fce8e6; --warn: #8a5a00; --warn-soft: #fdf1d8;
  --info: #0b57d0; --info-soft: #e6eefc; --none: #57606a; --none-soft: #eceef1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1116; --card: #171b21; --line: #2d333b; --text: #e6e9ed; --soft: #9aa4af; --code: #0b0e12;
    --link: #7cb0ff;
    --good: #57c774; --good-soft: #12301b; --bad: #ff8a80; --bad-soft: #3b1613; --warn: #e7b04b; --warn-soft: #352707;
    --info: #7cb0ff; --info-soft: #14243f; --none: #9aa4af; --none-soft: #22272e;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; overflow-wrap: anywhere; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
a { color: var(--link); text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 4px; }
pre { white-space: pre-wrap; }
code, pre, .mono { font: .92em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.page { max-width: 76rem; margin: 0 auto; padding: 1.25rem 1rem 3rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; align-items: baseline; justify-content: space-between;
  margin-bottom: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h1 small { font-size: .85rem; font-weight: 400; color: var(--soft); margin-left: .4rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
h2 small { font-weight: 400; color: var(--soft); font-size: .85rem; margin-left: .35rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .35rem 0; }
.soft { color: var(--soft); }
.banner { background: var(--warn-soft); border: 1px solid var(--warn); color: var(--text); border-radius: 8px;
  padding: .6rem .9rem; margin: 0 0 1rem; }
.banner b { color: var(--warn); }
.families { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .8rem; }
.family { display: flex; gap: .9rem; align-items: center; background: var(--card); border: 1px solid var(--line);
  border-left: 6px solid var(--none); border-radius: 10px; padding: .8rem 1rem; }
.family .sign { flex: none; width: 2.7rem; height: 2.7rem; border-radius: 50%; display: grid; place-items: center;
  font-size: 1.5rem; font-weight: 700; background: var(--none-soft); color: var(--none); }
.family b { font-size: 1.15rem; display: block; line-height: 1.3; }
.family.good { border-left-color: var(--good); } .family.good .sign { background: var(--good-soft);
  color: var(--good); }
.family.bad { border-left-color: var(--bad); } .family.bad .sign { background: var(--bad-soft); color: var(--bad); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .9rem 1rem;
  margin: 0 0 .8rem; }
.cause { border-left: 6px solid var(--info); }
.cause.critical { border-left-color: var(--bad); } .cause.warning { border-left-color: var(--warn); }
.cause header { margin: 0 0 .2rem; justify-content: flex-start; gap: .3rem .7rem; align-items: center; }
.tag { font-size: .78rem; font-weight: 600; border-radius: 99px; padding: .05rem .6rem; background: var(--info-soft);
  color: var(--info); white-space: nowrap; }
.critical > header .tag { background: var(--bad-soft); color: var(--bad); }
.warning > header .tag { background: var(--warn-soft); color: var(--warn); }
.cause .about { font-size: 1.02rem; }
dl { display: grid; grid-template-columns: 6.5rem minmax(0, 1fr); gap: .3rem .8rem; margin: .5rem 0 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
ul { margin: 0; padding: 0; list-style: none; } li + li { margin-top: .15rem; }
.command { display: block; background: var(--code); border: 1px solid var(--line); border-radius: 6px;
  padding: .4rem .6rem; white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; padding: .15rem 0; } details > summary + * { margin-top: .5rem; }
.scroll + details { margin-top: .6rem; }
details.card > summary { font-weight: 600; margin: -.3rem 0; }
.scroll { overflow-x: auto; overflow-wrap: normal; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .4rem .7rem; border-top: 1px solid var(--line); vertical-align: top; }
thead th { border-top: 0; font-weight: 600; white-space: nowrap; }
thead tr + tr th { padding-top: 0; font-weight: 400; color: var(--soft); }
th.split, td.split { border-left: 1px solid var(--line); }
tbody th { font-weight: 400; white-space: nowrap; }
tr.group > * { background: var(--none-soft); } tr.group th { font-weight: 600; }
.matrix th:first-child { position: sticky; left: 0; background: var(--card); max-width: 17rem; overflow: hidden;
  text-overflow: ellipsis; }
.matrix tr.group th:first-child { background: var(--none-soft); }
.matrix tr.pod th:first-child { padding-left: 1.5rem; }
.matrix td, .names td { white-space: nowrap; }
.good-text { color: var(--good); } .bad-text { color: var(--bad); font-weight: 600; }
.none-text { color: var(--none); } .warn-text { color: var(--warn); }
td small, li small { display: block; color: var(--soft); font-weight: 400; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: .8rem; }
.facts .card { margin: 0; } .facts dl { grid-template-columns: 8.5rem minmax(0, 1fr); }
.note { padding: .8rem 1rem; margin: 0; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; } footer { margin-top: 2.5rem; color: var(--soft);
  font-size: .88rem; border-top: 1px solid var(--line); padding-top: .8rem; display: flex; flex-wrap: wrap;
  gap: .3rem 1.5rem; justify-content: space-between; }
@media (max-width: 34rem) {
  dl, .facts dl { grid-template-columns: minmax(0, 1fr); gap: 0; } dd { margin-bottom: .45rem; }
  dt { font-size: .85rem; }
  .page { padding: .9rem .7rem 2rem; } th, td { padding: .35rem .5rem; }
  .matrix, .matrix tbody { display: block; } .matrix thead { display: none; }
  .matrix tr { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); border-top: 1px solid var(--line); }
  .matrix tr > * { border: 0; } .matrix tbody tr th:first-child { position: static; grid-column: 1 / -1;
    max-width: none; white-space: normal; }
  .matrix td { white-space: normal; } .matrix td::before { content: attr(data-of) " "; color: var(--soft);
    font-weight: 400; }
}
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } }
"""
