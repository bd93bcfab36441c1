"""The page of `trace view`, held against the logs it was made of."""

import json
import re
import subprocess

from scene import OUT, RUNS, SLIMPIPE, Log, PageTest, resume_later, slimpipe, unit_name


def amount(count):
    units = ["B", "KiB", "MiB", "GiB"]
    while count >= 1024 and len(units) > 1:
        count, units = count / 1024, units[1:]
    return f"{count} B" if units[0] == "B" else f"{count:.2f} {units[0]}"


class MemoryPage(PageTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        slimpipe("trace view kept --out memory.html")
        slimpipe("trace view kept again --out compared.html")
        cls.logs = [Log("kept", rank) for rank in range(2)]

    def drawn(self, page):
        """The page, once it has made all pictures of what is shown."""
        page.until("!asked && panels.every(panel => panel.whole && !panel.making)")
        return page

    def view(self, page):
        return page.evaluate("[view.from, view.to, span.low, span.high]")

    def on_map(self, page, time, region, offset, panel=0):
        """Where the map shows that byte of a region at that time."""
        return page.evaluate(
            f"""(() => {{
              const panel = panels[{panel}], box = panel.canvas.getBoundingClientRect(), rank = rankOf(panel);
              const line = rank.bases[rank.regions.indexOf("{region}")] + {offset} / rank.line;
              const top = chart(panel) + STRIP, tall = Math.floor(box.height - top - AXIS);
              const y = top + tall * (1 - (line / lines(rank) - span.low) / (span.high - span.low));
              return [box.left + LEFT + ({time} - view.from) / (view.to - view.from) * (box.width - LEFT), box.top + y];
            }})()"""
        )

    def on_chart(self, page, time, rank, panel=0):
        """Where the chart above the map has that rank's row at that time."""
        return page.evaluate(
            f"""(() => {{
              const panel = panels[{panel}], box = panel.canvas.getBoundingClientRect();
              const x = box.left + LEFT + ({time} - view.from) / (view.to - view.from) * (box.width - LEFT);
              return [x, box.top + ({rank} + 0.5) * rowHeight(panel)];
            }})()"""
        )

    def saved(self, rank=0):
        """The saved block that takes most of the map, of a unit in a layer."""
        blocks = [b for b in self.logs[rank].blocks if b["region"] == "slots" and "layer" in b]
        return max(blocks, key=lambda b: b["bytes"] * (b["end"] - b["begin"]))

    def point_at(self, page, block):
        middle = (block["begin"] + block["end"]) / 2
        page.hover(*self.on_map(page, middle, block["region"], block["offset"] + block["bytes"] / 2))
        return page.text("#tip")

    def told(self, block):
        """What the page is to say of a block, up to its times, and behind them."""
        return (
            f"{block['op']} in layer {block['layer']}: {amount(block['bytes'])}\n"
            f"{unit_name(block)}, {block['region']} at byte {block['offset']}\n",
            f"\n{block['file']}:{block['line']}",
        )

    def test_the_tip_names_the_tensor_its_size_unit_lifetime_and_call_site(self):
        page = self.open("memory.html")
        block = self.saved()
        tip = self.point_at(page, block)
        begin, finish = self.told(block)
        self.assertTrue(tip.startswith(begin) and tip.endswith(finish), tip)
        scale = {"s": 1, "ms": 1e-3, "µs": 1e-6}
        times = [float(number) * scale[unit] for number, unit in re.findall(r"([\d.]+) (s|ms|µs)\b", tip)]
        expected = [block["begin"], block["end"], block["end"] - block["begin"]]
        self.assertEqual(len(times), 3, tip)
        for found, right in zip(times, expected):
            self.assertAlmostEqual(found, right, delta=1e-4)
        page.hover(5, 5)
        self.assertTrue(page.evaluate("document.querySelector('#tip').hidden"))

    def test_the_curve_is_what_was_live_and_reaches_the_summarys_peak(self):
        page = self.drawn(self.open("memory.html"))
        rank = json.loads(slimpipe("trace summary kept --rank 0 --json"))["logs"][0]
        self.assertEqual(page.evaluate("rankOf(panels[0]).peak"), rank["active_peak"])
        self.assertEqual(page.evaluate("Math.max(...panels[0].whole.active) * rankOf(panels[0]).line"), rank["active_peak"])
        for at in [0.2, 0.5, 0.9]:
            time = at * self.logs[0].end
            live = sum(b["bytes"] for b in self.logs[0].blocks if b["begin"] <= time < b["end"])
            # Looked at so closely that nothing else happens in a column.
            page.evaluate(f"move({time} - end * 5e-7, end * 1e-6)")
            self.drawn(page)
            now = page.evaluate("panels[0].cache.active[panels[0].cache.active.length / 2] * rankOf(panels[0]).line")
            self.assertEqual(now, live)

    def test_a_click_on_a_unit_shows_its_memory_appear_in_forward_and_vanish_in_backward(self):
        page = self.open("memory.html")
        log = self.logs[0]
        forward = next(p for p in log.phases if unit_name(p) == "mb0 s2")
        backward = next(p for p in log.phases if unit_name(p) == "mb0 s2" and p["phase"] == "backward")
        page.click(*self.on_chart(page, (forward["begin"] + forward["end"]) / 2, 0))
        self.assertEqual(page.evaluate("document.querySelector('#search').value"), "mb0 s2")
        low, high, *_ = self.view(page)
        margin = (backward["end"] - forward["begin"]) * 0.07
        self.assertTrue(forward["begin"] - margin <= low < forward["begin"], (low, forward))
        self.assertTrue(backward["end"] < high <= backward["end"] + margin, (high, backward))
        of_unit = [b for b in log.blocks if b.get("slice") == 2 and unit_name(b) == "mb0 s2"]
        self.assertEqual(page.text("#found"), f"{len(of_unit)} of {len(log.blocks)} blocks")
        # The curve of what is searched for: nothing before and after, most of it between.
        self.drawn(page)
        begin, most, finish = page.evaluate(
            "(() => { const a = panels[0].cache.active, c = panels[0].cache; const at = t => a[Math.floor((t - c.from) / c.reach * (a.length - 1))];"
            f"return [at({low}), Math.max(...a), at({high})]; }})()"
        )
        self.assertEqual((begin, finish), (0, 0))
        self.assertGreater(most, 0)

    def test_ranks_are_switched_by_menu_and_keys(self):
        page = self.open("memory.html")
        first = self.drawn(page).screenshot()
        page.key("]")
        self.assertEqual(page.evaluate("document.querySelector('#rank').selectedOptions[0].textContent"), "1")
        self.assertNotEqual(self.drawn(page).screenshot(), first)
        block = self.saved(1)
        self.assertTrue(self.point_at(page, block).startswith(self.told(block)[0]))
        page.key("]")
        self.assertEqual(page.evaluate("document.querySelector('#rank').value"), "1")
        page.key("[")
        self.assertEqual(page.evaluate("document.querySelector('#rank').value"), "0")
        page.evaluate("document.querySelector('#rank').focus()")
        page.key("1")
        self.assertEqual(page.evaluate("chosen"), 1)

    def test_a_search_counts_what_it_finds_dims_the_rest_and_goes_there(self):
        page = self.open("memory.html")
        log = self.logs[0]
        for text, has in [
            ("matmul", lambda b: b["op"] == "matmul"),
            ("mb1 layer 1", lambda b: b.get("microbatch") == 1 and b.get("layer") == 1),
            ("s3 kv", lambda b: b.get("slice") == 3 and "kv" in f"{b['region']} {b['op']} {b['file']}"),
            ("block.rs", lambda b: b["file"].endswith("block.rs")),
            ("nothing like it", lambda b: False),
        ]:
            page.key("/")
            page.type(text)
            found = [block for block in log.blocks if has(block)]
            self.assertEqual(page.text("#found"), f"{len(found)} of {len(log.blocks)} blocks", text)
            self.assertEqual(bool(found), text != "nothing like it", text)
            page.key("Enter")
            if found:
                low, high, *_ = self.view(page)
                self.assertAlmostEqual(low, min(b["begin"] for b in found), delta=1e-5)
                self.assertAlmostEqual(high, max(b["end"] for b in found), delta=1e-5)
            page.evaluate("document.querySelector('#search').select()")
            page.key("Escape")
            page.evaluate("document.querySelector('#search').value = ''")
            page.key("0")

    def test_keys_zoom_move_and_go_back_to_all(self):
        page = self.open("memory.html")
        whole = self.view(page)
        page.key("+")
        zoomed = self.view(page)
        self.assertAlmostEqual((zoomed[1] - zoomed[0]) / (whole[1] - whole[0]), 0.7)
        page.key("ArrowRight")
        self.assertGreater(self.view(page)[0], zoomed[0])
        page.key("Home")
        self.assertEqual(self.view(page)[0], 0)
        page.key("End")
        self.assertAlmostEqual(self.view(page)[1], whole[1])
        page.key("-")
        page.key("PageUp")
        low, high = self.view(page)[2:]
        self.assertAlmostEqual(high - low, 0.7)
        page.key("ArrowUp")
        self.assertGreater(self.view(page)[2], low)
        page.key("0")
        self.assertEqual(self.view(page), whole)

    def test_the_mouse_zooms_around_its_place_and_drags(self):
        page = self.open("memory.html")
        block = self.saved()
        time = (block["begin"] + block["end"]) / 2
        place = self.on_map(page, time, block["region"], block["offset"] + block["bytes"] / 2)
        page.wheel(*place, -240)
        low, high, *_ = self.view(page)
        self.assertLess(high - low, 0.9 * self.logs[0].end)
        moved = self.on_map(page, time, block["region"], block["offset"] + block["bytes"] / 2)
        self.assertAlmostEqual(moved[0], place[0], delta=1)
        page.wheel(*place, -240, shift=True)
        self.assertLess(self.view(page)[3] - self.view(page)[2], 0.9)
        before = self.on_map(page, time, "slots", 0)
        x, y = place
        page.drag([(x, y), (x - 40, y), (x - 80, y + 10)])
        after = self.on_map(page, time, "slots", 0)
        self.assertAlmostEqual(after[0], before[0] - 80, delta=1)
        # What is under the mouse is still what is there.
        page.wheel(*place, 2400)
        page.wheel(*place, 4800, shift=True)
        self.assertTrue(self.point_at(page, block).startswith(self.told(block)[0]))

    def test_two_runs_stand_below_each_other_with_one_clock_and_linked_cursors(self):
        page = self.open("compared.html", height=1000)
        self.assertEqual(page.evaluate("[...document.querySelectorAll('h2')].map(h => h.textContent)"), list(RUNS))
        page.hover(*self.on_map(page, 0.5 * self.logs[0].end, "slots", 0))
        first, second = page.evaluate("panels.map(panel => panel.cursor)")
        self.assertEqual(first, second)
        self.assertAlmostEqual(first, 0.5 * self.logs[0].end, delta=0.01 * self.logs[0].end)
        again = Log("again", 0)
        page.key("/")
        page.type("matmul")
        counts = [sum(b["op"] == "matmul" for b in log.blocks) for log in (self.logs[0], again)]
        told = [f"{n} of {len(log.blocks)} blocks" for n, log in zip(counts, (self.logs[0], again))]
        self.assertEqual(page.text("#found"), "; ".join(told))
        self.assert_seen(self.drawn(page), "compared.png")

    def peak(self, rank):
        """What the summary says of a rank's peak: bytes, and when."""
        summary = json.loads(slimpipe(f"trace summary kept --rank {rank} --json"))["logs"][0]
        return summary["active_peak"], summary["peak"]["seconds"]

    def assert_at_peak(self, page, rank, panel=0):
        most, when = self.peak(rank)
        cursor = page.evaluate(f"panels[{panel}].cursor")
        live = sum(b["bytes"] for b in self.logs[rank].blocks if b["begin"] <= cursor + 1e-8 and cursor + 1e-8 < b["end"])
        self.assertEqual(live, most)
        # Ranks do not begin their logs at once.
        self.assertAlmostEqual(cursor, when, delta=0.2)
        self.assertFalse(page.evaluate("byId('tip').hidden"))
        self.assertTrue(page.text("#tip").startswith(f"rank {rank}'s peak: {amount(most)}\n"), page.text("#tip"))
        low, high, *_ = self.view(page)
        self.assertTrue(low <= cursor <= high)
        return cursor

    def test_the_peak_is_marked_and_a_key_goes_there(self):
        page = self.drawn(self.open("memory.html"))
        ink = """(() => {
          const panel = panels[0], x = Math.round(LEFT + (%s - view.from) / (view.to - view.from) * (panel.canvas.clientWidth - LEFT));
          const g = panel.canvas.getContext("2d"), pixel = y => css([...g.getImageData(x, y, 1, 1).data.slice(0, 3)]);
          return [pixel(rowHeight(panel) / 2), pixel(chart(panel) + STRIP / 2)].map(is => is === css(rgb(style("--ink"))));
        })()"""
        page.key("p")
        at = self.assert_at_peak(page, 0)
        self.assertEqual(page.evaluate(ink % at), [True, True])
        # The marks are the peak's, not the cursor's, and say what they are.
        page.hover(5, 5)
        page.key("+")
        page.key("0")
        self.assertEqual(page.evaluate(ink % at), [True, True])
        self.assertEqual(page.evaluate(ink % (at + 0.3 * self.logs[0].end)), [False, False])
        page.hover(*self.on_chart(page, at, 0))
        self.assertTrue(page.text("#tip").startswith(f"rank 0's peak: {amount(self.peak(0)[0])}"))
        # From where it is not to be seen: the view goes there as it is, and zooms around it.
        page.hover(5, 5)
        page.evaluate(f"move({at} < end / 2 ? end * 0.9 : 0, end * 0.05)")
        self.assertEqual(page.evaluate("panels[0].cursor === undefined && byId('tip').hidden"), True)
        page.key("p")
        self.assert_at_peak(page, 0)
        low, high, *_ = self.view(page)
        self.assertAlmostEqual(high - low, 0.05 * page.evaluate("end"))
        for _ in range(8):
            page.key("+")
        self.assert_at_peak(page, 0)
        for _ in range(8):
            page.key("ArrowRight")
        self.assertTrue(page.evaluate("byId('tip').hidden"))
        page.key("]")
        self.assertTrue(page.evaluate("panels[0].cursor === undefined"))
        page.evaluate("byId('peak').click()")
        page.settle()
        self.assert_at_peak(page, 1)

    def test_of_two_runs_the_key_goes_to_one_peak_after_the_other(self):
        page = self.open("compared.html", height=1000)
        places = []
        for _ in range(3):
            page.key("p")
            places.append((page.evaluate("panels.map(panel => panel.cursor)"), page.text("#tip")))
        self.assertEqual(places[0], places[2])
        self.assert_at_peak(page, 0)
        again = json.loads(slimpipe("trace summary again --rank 0 --json"))["logs"][0]["active_peak"]
        self.assertTrue(places[1][1].startswith(f"rank 0's peak: {amount(again)}"))
        for (first, second), _ in places:
            self.assertEqual(first, second)

    def test_a_run_that_was_resumed_later_has_its_pause_folded_and_its_times_told(self):
        later, pause = resume_later("kept", 663), r"pause of 11 min( \d+ s)?"
        slimpipe(f"trace view {later} --out later.html")
        page = self.drawn(self.open("later.html"))
        ran = max(log.end for log in self.logs)
        self.assertLess(page.evaluate("end"), 2.2 * ran)
        block = self.saved()
        fold = page.evaluate("pauses[0]")
        self.assertGreater(fold["lasted"], 600)
        # The same block of both parts, where each is on the page.
        begin, finish = self.told(block)
        middle = (block["begin"] + block["end"]) / 2
        for hidden, seconds in [(0, 0), (fold["lasted"] - fold["shown"], 663)]:
            page.hover(*self.on_map(page, middle + seconds - hidden, block["region"], block["offset"] + block["bytes"] / 2))
            tip = page.text("#tip")
            self.assertTrue(tip.startswith(begin) and tip.endswith(finish), tip)
            scale = {"s": 1, "ms": 1e-3, "µs": 1e-6}
            times = [float(number) * scale[unit] for number, unit in re.findall(r"([\d.]+) (s|ms|µs)\b", tip)]
            expected = [block["begin"] + seconds, block["end"] + seconds, block["end"] - block["begin"]]
            for found, right in zip(times, expected, strict=True):
                self.assertAlmostEqual(found, right, delta=2e-4)
        page.hover(*self.on_chart(page, fold["at"] + fold["shown"] / 2, 0))
        self.assertRegex(page.text("#tip"), f"^{pause}: no log was written\n")
        # Words on the axis stand where their times are, before the pause and after it.
        words = page.evaluate(
            """(() => {
              const g = CanvasRenderingContext2D.prototype, write = g.fillText, words = [];
              g.fillText = function (text, x, y) { words.push([text, x, y]); };
              draw(panels[0]);
              g.fillText = write;
              redraw();
              const { clientWidth, clientHeight } = panels[0].canvas;
              const t = x => view.from + (x - 3 - LEFT) / (clientWidth - LEFT) * (view.to - view.from);
              return words.map(([text, x, y]) => [text, y > clientHeight - AXIS ? t(x) : null]);
            })()"""
        )
        self.assertTrue(any(re.fullmatch(pause, text) for text, _ in words), words)
        ticks = [(text, t) for text, t in words if t is not None]
        self.assertTrue(any(t < fold["at"] for _, t in ticks) and any(t > fold["at"] for _, t in ticks), ticks)
        for text, t in ticks:
            number, unit = text.split() if text != "0" else ("0", "s")
            hidden = fold["lasted"] - fold["shown"] if t > fold["at"] else 0
            self.assertAlmostEqual(float(number) * scale[unit], t + hidden, delta=1e-3, msg=text)
        page.hover(5, 5)
        self.assert_seen(self.drawn(page), "later.png")

    def test_it_is_seen_in_light_and_in_dark_and_by_every_colour(self):
        light = self.assert_seen(self.drawn(self.open("memory.html")), "memory-light.png")
        dark = self.assert_seen(self.drawn(self.open("memory.html", dark=True)), "memory-dark.png")
        self.assertGreater(light, dark + 0.3)
        page = self.open("memory.html")
        pictures = []
        for by in ["microbatch", "slice", "layer", "region"]:
            page.evaluate(f"(s => {{ s.value = '{by}'; s.dispatchEvent(new Event('change')); }})(document.querySelector('#by'))")
            pictures.append(self.drawn(page).screenshot(OUT / f"memory-by-{by}.png"))
            self.assertIn(f"{by} 0" if by != "region" else "slots", page.text("#legend"))
        self.assertEqual(len(set(pictures)), len(pictures))

    def test_it_is_served_too(self):
        command = [SLIMPIPE, "trace", "view", "kept", "--serve", "0"]
        with subprocess.Popen(command, cwd=OUT, stdout=subprocess.PIPE, text=True) as server:
            self.addCleanup(server.kill)
            address = re.search(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())[0]
            page = self.open(address)
            block = self.saved()
            self.assertTrue(self.point_at(page, block).startswith(self.told(block)[0]))
            server.kill()
