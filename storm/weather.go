package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// weather is a storm under way.
type weather struct {
	*scene
	options

	mu     sync.Mutex
	acts   []act    // under mu
	losses []string // under mu
	ended  atomic.Int64
}

// blow lets the workers work until the time is over.
func (w *weather) blow(ctx context.Context) []act {
	ctx, cancel := context.WithTimeout(ctx, w.lasting)
	defer cancel()
	var wg sync.WaitGroup
	for i := range w.workers {
		wg.Go(func() {
			d := drawer{rand.New(rand.NewPCG(w.seed, uint64(i)))}
			for ctx.Err() == nil {
				w.do(d.draw())
			}
		})
	}
	done := make(chan struct{})
	var helpers sync.WaitGroup
	helpers.Go(func() { w.watch(done) })
	helpers.Go(func() { w.thaw(done) })
	wg.Wait()
	close(done)
	helpers.Wait()
	return w.acts
}

// thaw unpauses what is paused, every few seconds: an exec that was under way
// when its container was paused is frozen with it, and the workers may have
// drawn their last unpause. An exec that hangs all the same is a loss.
func (w *weather) thaw(done chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(5 * time.Second):
		}
		paused := strings.Fields(w.run(0, "ps", "-aq", "--no-trunc", "--filter", "status=paused").out)
		for _, id := range paused {
			_ = w.run(0, "unpause", id) // unless it is gone or somebody was faster
		}
	}
}

// watch is the watchdog: it tells, once, when nobody gets on any more. The
// commands that hang tell where when their time is over.
func (w *weather) watch(done chan struct{}) {
	last, since := w.ended.Load(), time.Now()
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Second):
		}
		if now := w.ended.Load(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > w.hang/2 {
			locks, _ := os.ReadFile("/proc/locks")
			w.lose("deadlock: for %s no command has ended; /proc/locks:\n%s", time.Since(since).Round(time.Second), locks)
			return
		}
	}
}

func (w *weather) lose(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.losses = append(w.losses, fmt.Sprintf(format, args...))
}

// do does one deed and keeps what it tells.
func (w *weather) do(d deed) {
	a := act{deed: d.kind, argv: d.argv, begin: time.Now()}
	r := w.run(d.limit, d.argv...)
	a.end = time.Now()
	w.ended.Add(1)
	a.answer = answer(r)
	if d.limit > 0 && r.errors == "" && (r.code == 128+int(syscall.SIGTERM) || r.code == 128+int(syscall.SIGKILL)) {
		a.answer = "ended"
	}
	switch {
	case r.err != nil:
		w.lose("%s: %s", &a, r)
	case strings.Contains(r.errors, "panic:") || strings.Contains(r.errors, "goroutine "):
		w.lose("%s: %s", &a, r)
	case a.answer == "done":
		if d.want != "" && !regexp.MustCompile(`^(?:`+d.want+`)$`).MatchString(r.out) {
			w.lose("%s: it printed %q", &a, r.out)
		}
		a.facts = d.done
	case d.limit > 0 && a.answer == "ended": // by us
		a.facts = d.perhaps
	default:
		i := slices.IndexFunc(d.other, func(o outcome) bool { return o.answer == a.answer })
		if i < 0 {
			w.lose("%s: unexpected: %s", &a, r)
			a.facts = d.perhaps
		} else {
			a.facts = d.other[i].facts
		}
	}
	if d.to != "" && a.answer == "done" {
		a.from, a.to = d.from, d.to
	}
	if w.verbose {
		fmt.Println(&a, strings.TrimSpace(r.errors))
	}
	w.mu.Lock()
	w.acts = append(w.acts, a)
	w.mu.Unlock()
}

// answers are what commands say, by how it is called here.
var answers = []struct {
	name string
	text *regexp.Regexp
}{
	{"absent", regexp.MustCompile(`no such container|no such object|no such volume|network not found|no such network`)},
	{"taken", regexp.MustCompile(`is already in use by|volume already exists|network already exists`)},
	{"used", regexp.MustCompile(`volume is being used|network is being used`)},
	{"idle", regexp.MustCompile(`can only kill running containers|can only create exec sessions on running containers|is not running, can't pause|is already paused|is not paused, can't unpause`)},
	{"busy", regexp.MustCompile(`running or paused containers cannot be removed without force|it is paused|it is removing`)},
	{"port", regexp.MustCompile(`address already in use`)},
}

// answer calls an outcome by its name.
func answer(r result) string {
	if r.err != nil {
		return "failed"
	}
	for _, a := range answers {
		if r.code != 0 && a.text.MatchString(r.errors) {
			return a.name
		}
	}
	switch {
	case r.code == 0:
		return "done"
	case r.errors == "":
		return fmt.Sprintf("exit %d", r.code)
	}
	return "failed"
}

// quiet looks at what is there when the storm is over.
func (w *weather) quiet(acts []act) (losses []string) {
	if problem := w.checked(); problem != "" {
		losses = append(losses, "after the storm: "+problem)
	}
	last := act{deed: "ps", argv: []string{"the last ps"}, begin: time.Now()}
	r := w.run(0, "ps", "-a", "--format", "{{.Names}} {{.State}}")
	volumes := w.run(0, "volume", "ls", "-q")
	networks := w.run(0, "network", "ls", "-q")
	for _, r := range []result{r, volumes, networks} {
		if r.code != 0 {
			return append(losses, r.String())
		}
	}
	last.end = time.Now()
	status := map[string]string{}
	for line := range strings.Lines(r.out) {
		name, state, _ := strings.Cut(strings.TrimSpace(line), " ")
		status[name] = state
	}
	saw := func(register string, on bool) {
		what := sawOff
		if on {
			what = sawOn
		}
		last.facts = append(last.facts, fact{register, what})
	}
	for _, n := range slices.Concat(kept, passing, left) {
		saw("name "+n, status[n] != "")
		saw("running "+n, status[n] == "running" || status[n] == "paused")
	}
	for _, n := range volumeNames {
		saw("volume "+n, slices.Contains(strings.Fields(volumes.out), n))
	}
	for _, n := range networkNames {
		saw("network "+n, slices.Contains(strings.Fields(networks.out), n))
	}
	return append(losses, contradictions(append(slices.Clone(acts), last))...)
}
