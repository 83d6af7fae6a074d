package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// row is what -rows chooses; some measure several lines of the table.
type row struct {
	name    string
	measure func(*bench, row) ([]line, error)
}

var rows = []row{
	{"version", (*bench).version},
	{"run", runRow("run --rm "+imageName+" true", 1, 1, "--rm")},
	{"run without network", runRow("run --rm --network none "+imageName+" true", 1, 1, "--rm", "--network", "none")},
	{"run over cove-runtime", (*bench).otherRuntime},
	{"run with standard parts", (*bench).parts},
	{"run, 8 at once", runRow("run --rm "+imageName+" true, per container", 8, 8, "--rm")},
	{"storm, 64 at once", runRow("run --rm "+imageName+" true, per container of 100", 100, 64, "--rm")},
	{"exec", (*bench).exec},
	{"memory", (*bench).memory},
	{"ps", (*bench).ps},
	{"crowd", (*bench).crowd},
	{"pull", (*bench).pull},
}

// timed is how one engine's samples are taken.
type timed struct {
	before func(*house) error // not measured
	run    func(*house) request
	share  int // samples and CPU are divided by it
}

// measure takes runs samples of each of the engines by turns, one before
// them uncounted. An engine that fails is measured no further.
func (b *bench) measure(l line, engines []*house, runs int, t timed) line {
	l.Engines = map[string]*figure{}
	for i := range runs + 1 {
		for j := range engines {
			h := engines[(i+j)%len(engines)]
			b.take(l.figure(h), h, i, runs, t)
		}
	}
	for _, f := range l.Engines {
		f.Median = median(f.Samples)
	}
	return l
}

// take takes sample i of runs, of which 0 does not count.
func (b *bench) take(f *figure, h *house, i, runs int, t timed) {
	if f.Failure != "" || b.ctx.Err() != nil {
		return
	}
	wall, cpu, err := b.sample(h, t)
	switch {
	case err != nil:
		f.Failure = err.Error()
	case i > 0:
		f.Samples = append(f.Samples, float64(wall)/float64(time.Millisecond)/float64(t.share))
		f.CPU += float64(cpu) / float64(time.Millisecond) / float64(t.share) / float64(runs)
	}
}

// sample does the one and gives its wall and CPU time, the latter with all
// that the engine and its daemons do until they are quiet again.
func (b *bench) sample(h *house, t timed) (wall, cpu time.Duration, err error) {
	if h.missing != nil {
		return 0, 0, h.missing
	}
	if t.before != nil {
		if err := t.before(h); err != nil {
			return 0, 0, err
		}
		if _, err := settled(h.cgroups); err != nil {
			return 0, 0, err
		}
	}
	begin, err := usage(h.cgroups)
	if err != nil {
		return 0, 0, err
	}
	r, err := h.ask(t.run(h))
	if err != nil {
		return 0, 0, err
	}
	end, err := settled(h.cgroups)
	return r.Wall, end - begin, err
}

func one(args ...string) func(*house) request {
	return func(h *house) request { return request{Run: [][]string{h.command(args...)}} }
}

func (b *bench) version(r row) ([]line, error) {
	return []line{b.measure(line{Name: r.name, Command: "--version", Unit: "ms"}, b.engines, b.runs, timed{run: one("--version"), share: 1})}, nil
}

// runRow measures so many runs, atOnce of them at a time.
func runRow(command string, times, atOnce int, flags ...string) func(*bench, row) ([]line, error) {
	return func(b *bench, r row) ([]line, error) {
		args := append(append([]string{"run"}, flags...), imageName, "true")
		runs := b.runs
		switch {
		case times > 20:
			runs = min(runs, 2)
		case times > 1:
			runs = min(runs, 4)
		}
		return []line{b.measure(line{Name: r.name, Command: command, Unit: "ms"}, b.engines, runs, timed{share: times, run: func(h *house) request {
			return request{Run: [][]string{h.command(args...)}, Times: times, Workers: atOnce}
		}})}, nil
	}
}

// variant is an engine's command, to be compared with the first of that
// engine's in the same row.
type variant struct {
	engine *house
	name   string
	args   []string
}

// byTurns measures what `run --rm --network none` costs in variants, one of
// each by turns: rows that are measured after each other differ by what the
// machine does meanwhile.
func (b *bench) byTurns(r row, variants []variant) []line {
	lines := make([]line, len(variants))
	each := make([]timed, len(variants))
	for i, v := range variants {
		lines[i] = line{Name: r.name, Command: "run --rm --network none " + imageName + " true: " + v.name, Unit: "ms", Engines: map[string]*figure{}}
		each[i] = timed{run: one(v.args...), share: 1}
	}
	for i := range b.runs + 1 {
		for j := range lines {
			at := (i + j) % len(lines)
			b.take(lines[at].figure(variants[at].engine), variants[at].engine, i, b.runs, each[at])
		}
	}
	firsts := map[*house]*figure{}
	for i, v := range variants {
		f := lines[i].figure(v.engine)
		f.Median = median(f.Samples)
		first := firsts[v.engine]
		switch {
		case first == nil:
			firsts[v.engine] = f
		case first.Median > 0 && f.Median > 0:
			f.Note = fmt.Sprintf("%.2f × the time of %s's own parts", f.Median/first.Median, v.engine.name)
		}
	}
	return lines
}

// otherRuntime is how fast the others become over our OCI runtime.
func (b *bench) otherRuntime(r row) ([]line, error) {
	if _, err := os.Stat(b.runtime); err != nil {
		return nil, err
	}
	run := []string{"run", "--rm", "--network", "none", imageName, "true"}
	var variants []variant
	for _, h := range b.engines {
		ours := append([]string{"--runtime", b.runtime}, run...)
		switch h.name {
		case "cove":
			continue
		case "docker":
			ours = append([]string{"run", "--runtime", "cove"}, run[1:]...)
		}
		variants = append(variants, variant{h, "its own runtime", run}, variant{h, "cove-runtime", ours})
	}
	return b.byTurns(r, variants), nil
}

// parts is what cove's runs cost with other OCI runtimes and with conmon.
func (b *bench) parts(r row) ([]line, error) {
	runtimes := []string{"native"}
	for _, name := range []string{"runc", "crun"} {
		if _, err := exec.LookPath(name); err == nil && (name == "runc" || ociRuntime() == "crun") {
			runtimes = append(runtimes, name)
		}
	}
	monitors := []string{"own monitor"}
	conmon, err := exec.LookPath("conmon")
	if err == nil {
		monitors = append(monitors, "conmon")
	}
	var variants []variant
	for _, monitor := range monitors {
		for _, runtime := range runtimes {
			var args []string
			if monitor == "conmon" {
				args = append(args, "--conmon", conmon)
			}
			if runtime != "native" {
				args = append(args, "--runtime", runtime)
			}
			args = append(args, "run", "--rm", "--network", "none", imageName, "true")
			variants = append(variants, variant{b.engines[0], runtime + ", " + monitor, args})
		}
	}
	return b.byTurns(r, variants), nil
}

func (b *bench) exec(r row) ([]line, error) {
	setup := b.each(func(h *house) error {
		_, err := h.do("run", "-d", "--name", "held", imageName, "sleep", "1000000")
		return err
	})
	l := b.measure(line{Name: r.name, Command: "exec CONTAINER true", Unit: "ms"}, b.engines, b.runs, timed{run: one("exec", "held", "true"), share: 1})
	l.note(setup)
	return []line{l}, b.resetAll()
}

// each does something not measured in every house that stands, and gives its
// failures.
func (b *bench) each(do func(*house) error) map[string]error {
	failed := map[string]error{}
	for _, h := range b.engines {
		if h.missing == nil && b.ctx.Err() == nil {
			if err := do(h); err != nil {
				failed[h.name] = err
			}
		}
	}
	return failed
}

// resetAll empties the houses. Without cove's, it is over.
func (b *bench) resetAll() error {
	for name, err := range b.each((*house).reset) {
		for _, h := range b.engines {
			if h.name == name {
				h.missing = err
			}
		}
		if name == "cove" {
			return err
		}
	}
	return b.ctx.Err()
}

// held is how many containers run while memory is looked at.
const held = 20

func (b *bench) memory(r row) ([]line, error) {
	l := line{Name: r.name, Command: fmt.Sprintf("private memory beside each of %d running containers", held), Unit: "KiB", Engines: map[string]*figure{}}
	failed := b.each(func(h *house) error {
		if _, err := h.ask(request{Run: [][]string{h.command("run", "-d", "--network", "none", imageName, "sleep", "1000000")}, Times: held}); err != nil {
			return err
		}
		if _, err := settled(h.cgroups); err != nil {
			return err
		}
		got, err := h.ask(request{Extra: []string{"sleep", "dockerd", "containerd"}})
		if err != nil {
			return err
		}
		f := l.figure(h)
		f.Samples = []float64{float64(got.Private) / held}
		f.Median = f.Samples[0]
		var names []string
		for _, name := range slices.Sorted(maps.Keys(got.Processes)) {
			names = append(names, fmt.Sprintf("%d %s", got.Processes[name], name))
		}
		f.Note = "processes: " + strings.Join(names, ", ")
		return nil
	})
	l.missing(b)
	l.note(failed)
	return []line{l}, b.resetAll()
}

// populate makes containers that do not run until there are n more, or the
// time is over, and says how many there are now.
func (h *house) populate(n int) (int, error) {
	r, err := h.ask(request{Run: [][]string{h.command("create", "--network", "none", imageName, "true")}, Times: n, Workers: 2, Limit: patience})
	return r.Done, err
}

func (b *bench) ps(r row) ([]line, error) {
	n := 1000
	if b.short {
		n = 200
	}
	made := map[string]int{}
	failed := b.each(func(h *house) (err error) {
		made[h.name], err = h.populate(n)
		return err
	})
	l := b.measure(line{Name: r.name, Command: fmt.Sprintf("ps -a with %d containers", n), Unit: "ms"}, b.engines, min(b.runs, 10), timed{run: one("ps", "-a"), share: 1})
	l.note(failed)
	for name, f := range l.Engines {
		if made[name] < n && f.Failure == "" {
			f.Note = fmt.Sprintf("only %d containers were made in %v", made[name], patience)
		}
	}
	return []line{l}, b.resetAll()
}

// crowd is cove's alone: its work must not grow with the number of
// containers.
func (b *bench) crowd(r row) ([]line, error) {
	few, many := 10, 3000
	if b.short {
		many = 300
	}
	cove := b.engines[:1]
	t := timed{share: 1, run: func(h *house) request {
		return request{Run: [][]string{h.command("create", "--name", "one", "--network", "none", imageName, "true"), h.command("rm", "one")}}
	}}
	var lines []line
	present := 0
	for _, n := range []int{few, many} {
		more, err := cove[0].populate(n - present)
		if err != nil {
			return lines, errors.Join(err, cove[0].reset())
		}
		present += more
		l := b.measure(line{Name: r.name, Command: fmt.Sprintf("create and rm with %d containers present", present), Unit: "ms"}, cove, b.runs, t)
		if len(lines) > 0 && lines[0].Engines["cove"].Median > 0 {
			f := l.Engines["cove"]
			f.Note = fmt.Sprintf("%.2f × the time with %d containers", f.Median/lines[0].Engines["cove"].Median, few)
		}
		lines = append(lines, l)
	}
	return lines, cove[0].reset()
}

func (b *bench) pull(r row) ([]line, error) {
	const layers = 10
	size := 200 << 20
	if b.short {
		size = 20 << 20
	}
	storage := filepath.Join(b.work, "registry")
	if err := writeRegistry(storage, layers, size/layers); err != nil {
		return nil, err
	}
	failed := b.each(func(h *house) error { return b.serve(h, storage) })
	pulled := map[string]bool{}
	t := timed{share: 1, run: one("pull", "-q", pulledName), before: func(h *house) error {
		if !pulled[h.name] {
			pulled[h.name] = true
			return nil
		}
		_, err := h.do("rmi", pulledName)
		return err
	}}
	l := b.measure(line{Name: r.name, Command: fmt.Sprintf("pull of %d MiB in %d layers", size>>20, layers), Unit: "ms"}, b.engines, min(b.runs, 5), t)
	l.note(failed)
	return []line{l}, errors.Join(b.stopServing(), os.RemoveAll(storage), b.resetAll())
}

func median(s []float64) float64 {
	if len(s) == 0 {
		return 0
	}
	s = slices.Sorted(slices.Values(s))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
