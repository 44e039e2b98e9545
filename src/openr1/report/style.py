"""The style sheet of the HTML report. Colours: Okabe and Ito's palette, darkened or lightened for each background."""

from __future__ import annotations

CSS = """
:root{--paper:#fff;--panel:#f7f7f5;--ink:#1b1d21;--quiet:#5d636d;--grid:#e3e4e6;--line:#d3d5d9;--link:#0b5fa5;
--good:#00694f;--bad:#a6400b;--good-bg:#e4f3ee;--bad-bg:#fbeee4;
--series-1:#0b62a4;--series-2:#c25700;--series-3:#007a5e;--series-4:#93478f;--series-5:#8a6d00;--series-6:#4a90b8}
@media (prefers-color-scheme:dark){:root{--paper:#15171a;--panel:#1d2024;--ink:#e6e7e9;--quiet:#a0a6b0;--grid:#2d3136;
--line:#3a3f46;--link:#7cbcf0;--good:#63cfae;--bad:#f2a56b;--good-bg:#15302a;--bad-bg:#38271a;
--series-1:#6cb4ee;--series-2:#f2a154;--series-3:#4fc9a4;--series-4:#dc9cd8;--series-5:#dcc04a;--series-6:#a5d4ef}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","Liberation Sans",Arial,sans-serif}
.page{max-width:1320px;margin:0 auto;padding:0 24px 96px;display:grid;
grid-template:"nav head" auto "nav main" 1fr/200px minmax(0,1fr);
gap:0 48px}
header{grid-area:head}main{grid-area:main}nav{grid-area:nav}
nav{position:sticky;top:0;align-self:start;padding-top:44px;font-size:13.5px;max-height:100vh;overflow:auto}
.nav-title{margin:0 0 8px;color:var(--quiet);font-weight:600}
nav ol{list-style:none;margin:0;padding:0;border-left:1px solid var(--line)}
nav li a{display:block;padding:3px 0 3px 14px;color:var(--quiet);text-decoration:none}
nav li a:hover{color:var(--ink);text-decoration:underline}
a{color:var(--link)}
header{padding-top:36px}
h1{font-size:30px;line-height:1.2;margin:0 0 8px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:21px;line-height:1.3;margin:52px 0 12px;padding-top:14px;border-top:1px solid var(--line)}
h3{font-size:16.5px;margin:28px 0 8px}
h3 small{font-size:13px;font-weight:400;color:var(--quiet);margin-left:8px}
.comparison h3{font-size:14px;margin:0 0 8px}
p,ul{max-width:76ch;margin:8px 0 12px}
ul{padding-left:20px}
li{margin:3px 0}
.lead{color:var(--quiet);font-size:16px}
.quiet,.note{color:var(--quiet)}
.note{font-size:13px;margin-top:6px}
.good{color:var(--good)}
.bad{color:var(--bad)}
ul.bad{color:inherit;border-left:3px solid var(--bad);padding:8px 12px 8px 30px;background:var(--bad-bg);
max-width:none}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.88em}
code{overflow-wrap:anywhere}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.5}
pre.verbatim{background:var(--panel);border:1px solid var(--line);border-radius:4px;padding:10px 12px}
.scroll{overflow-x:auto;margin:14px 0 0}
.scroll:focus-visible{outline:2px solid var(--link);outline-offset:2px}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums lining-nums;min-width:50%}
caption{text-align:left;font-weight:600;padding:0 0 6px;color:var(--ink)}
th,td{padding:6px 18px 6px 0;text-align:left;vertical-align:top;font-weight:400;border-bottom:1px solid var(--grid);
overflow-wrap:normal}
thead th{font-weight:600;color:var(--quiet);border-bottom:1px solid var(--quiet);vertical-align:bottom;line-height:1.3}
tbody th{font-weight:600;white-space:nowrap}
tbody th.text{white-space:normal}
td.number,th.number{text-align:right;white-space:nowrap}
thead th.number{white-space:normal}
tr>:last-child{padding-right:4px}
td small,th small{display:block;color:var(--quiet);font-size:12px;font-weight:400}
figure{margin:16px 0 0}
figcaption{font-size:13.5px;font-weight:600;margin:0 0 4px}
svg{display:block;width:100%;height:auto;overflow:visible}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,290px),1fr));
gap:10px 30px;margin:8px 0 12px}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 18px;margin:6px 0 10px;padding:0;max-width:none;
font-size:13px}
.legend li{display:flex;align-items:center;gap:7px;margin:0}
.legend svg{width:28px;flex:none}
details{margin:12px 0}
summary{cursor:pointer;color:var(--link);font-size:13.5px;width:fit-content}
details>details,details>p,details>.scroll,details>.panels{margin-left:0}
.comparison{border:1px solid var(--line);border-radius:6px;padding:14px 16px;margin:14px 0;background:var(--panel)}
.question{margin-bottom:12px}
.gold{margin:4px 0 0;color:var(--quiet);font-size:13px}
.samples{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,270px),1fr));gap:12px}
.sample{background:var(--paper);border:1px solid var(--line);border-radius:4px;padding:10px 12px;min-width:0}
.sample-head{display:flex;justify-content:space-between;gap:12px;margin:0 0 8px;font-size:13px;align-items:baseline}
.verdict{border-radius:3px;padding:0 7px;font-size:12.5px;background:var(--grid);white-space:nowrap}
.verdict.good{background:var(--good-bg)}
.verdict.bad{background:var(--bad-bg)}
.detail{margin:8px 0 0;color:var(--quiet);font-size:12.5px}
@media (max-width:900px){.page{display:block;padding:0 16px 64px}nav{position:static;padding-top:0}
nav ol{columns:2;border:0}nav li a{padding-left:0}header{padding-top:20px}h1{font-size:25px}h2{margin-top:38px}}
@media (max-width:520px){table{font-size:12.5px}th,td{padding-right:10px}td.number{white-space:normal}
tbody th{white-space:normal;overflow-wrap:anywhere;min-width:9em}}
@media print{nav{display:none}.page{display:block}h2{break-after:avoid}.comparison,figure{break-inside:avoid}}
""".replace("\n", "")
