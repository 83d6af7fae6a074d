package cgroup

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// systemdSocket is where systemd itself listens, for root alone: no message
// bus need run, and none delays the answer.
const systemdSocket = "/run/systemd/private"

// Systemd reports whether scopes can be had: systemd manages the cgroups, of
// version 2, and the caller is root.
func (l Layout) Systemd() bool {
	return l.Unified && l.Writable && !l.Nested && !l.Rootless && unix.Access(systemdSocket, unix.F_OK) == nil
}

// Scope is a transient unit of systemd that delegates its cgroup to whoever is
// in it. It lives as long as there are processes in it.
type Scope struct {
	Name        string // cove-ID.scope
	Slice       string // machine.slice
	Description string
	PID         int           // its first process
	StopTimeout time.Duration // between SIGTERM and SIGKILL when systemd stops it
	Shares      Shares
}

// Shares are what a cgroup has in comparison with those beside it, as systemd's
// properties. What lies within a scope has no say there, so the scope has them, too.
// (Weights of single devices are left within.)
type Shares struct {
	CPUWeight, IOWeight  *uint64 // 0 for the processor is idle
	MemoryLow, MemoryMin *uint64 // bytes
}

// Shares are those among a container's limits, nil for none.
func (l Layout) Shares(r *specs.LinuxResources) (found Shares, err error) {
	if r == nil {
		return found, nil
	}
	set, _, err := l.Set("/any", &specs.LinuxResources{CPU: r.CPU, BlockIO: r.BlockIO, Memory: r.Memory, Unified: r.Unified})
	for _, w := range set.Writes {
		if path.Base(w.File) == "io.bfq.weight" && w.Else != nil {
			w = *w.Else
		}
		value, wrong := strconv.ParseUint(w.Value, 10, 64)
		if w.Value == "max" {
			value, wrong = math.MaxUint64, nil
		}
		if wrong != nil {
			continue
		}
		switch path.Base(w.File) {
		case "cpu.weight":
			found.CPUWeight = &value
		case "cpu.idle":
			if idle := uint64(0); value == 1 {
				found.CPUWeight = &idle
			}
		case "io.weight":
			found.IOWeight = &value
		case "memory.low":
			found.MemoryLow = &value
		case "memory.min":
			found.MemoryMin = &value
		}
	}
	return found, err
}

func (w *encoder) shares(s Shares) {
	for _, p := range []struct {
		name  string
		value *uint64
	}{{"CPUWeight", s.CPUWeight}, {"IOWeight", s.IOWeight}, {"MemoryLow", s.MemoryLow}, {"MemoryMin", s.MemoryMin}} {
		if p.value != nil {
			w.property(p.name, *p.value)
		}
	}
}

// Share gives the running scope its shares, those that there are.
func (s Scope) Share() error {
	if s.Shares == (Shares{}) {
		return nil
	}
	var w encoder
	w.string(s.Name)
	w.uint32(1) // until the next boot
	w.array(func() { w.shares(s.Shares) })
	c, err := ask("SetUnitProperties", "sba(sv)", w.Bytes())
	if err != nil {
		return cove.E("change scope", s.Name, cove.Unavailable, err)
	}
	defer c.close()
	for {
		a, err := c.receive()
		if err == nil && a.reply == 1 && a.kind == methodError {
			err = a.refusal()
		}
		if err != nil {
			return cove.E("change scope", s.Name, cove.Unavailable, err)
		}
		if a.reply == 1 {
			return nil
		}
	}
}

// ask calls a method of systemd's manager. Whoever asks closes the connection.
func ask(member, signature string, body []byte) (*connection, error) {
	c, err := dial(systemdSocket, scopePatience)
	if err != nil {
		return nil, err
	}
	err = c.send(call("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", member, signature, body))
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// refusal is what an error answer says.
func (a answer) refusal() error {
	return errors.New(strings.Join(append([]string{a.err}, a.strings...), ": "))
}

// Path is the scope's cgroup from the root: slices nest by their names, so
// a-b.slice is in a.slice.
func (s Scope) Path() string {
	at := "/"
	base := strings.TrimSuffix(s.Slice, ".slice")
	for i, r := range base {
		if r == '-' && i > 0 {
			at = path.Join(at, base[:i]+".slice")
		}
	}
	if base != "-" {
		at = path.Join(at, s.Slice)
	}
	return path.Join(at, s.Name)
}

// Inside tells whether the caller is in the scope, which lives at least as long as
// he does then.
func (s Scope) Inside() bool {
	own, err := readFile("/proc/self/cgroup", 1<<20)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(own)) {
		if at, v2 := strings.CutPrefix(line, "0::"); v2 {
			return strings.HasPrefix(at, s.Path()+"/")
		}
	}
	return false
}

// scopePatience is how long systemd may take, and a scope of the same name to go.
const scopePatience = 30 * time.Second

// Start makes the scope and returns when its cgroup is there with the process
// in it. One of the same name that is about to go is waited for.
func (s Scope) Start() error {
	end := time.Now().Add(scopePatience)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := s.start()
		if !errors.Is(err, errUnitExists) || time.Now().After(end) {
			if err != nil {
				return cove.E("start scope", s.Name, cove.Unavailable, err)
			}
			return nil
		}
		time.Sleep(wait)
	}
}

var errUnitExists = errors.New("a unit of that name is there")

func (s Scope) start() error {
	var w encoder
	w.string(s.Name)
	w.string("fail") // when another job for the unit is under way
	w.array(func() {
		w.property("Description", s.Description)
		w.property("Slice", s.Slice)
		w.property("Delegate", true)
		w.property("CollectMode", "inactive-or-failed")
		w.property("TimeoutStopUSec", uint64(s.StopTimeout.Microseconds()))
		w.property("PIDs", []uint32{uint32(s.PID)})
		w.shares(s.Shares)
	})
	w.array(func() {}) // no auxiliary units
	c, err := ask("StartTransientUnit", "ssa(sv)a(sa(sv))", w.Bytes())
	if err != nil {
		return err
	}
	defer c.close()
	// The answer is a job; its end is told to every connection of this kind.
	job := ""
	var ended [][]string
	for {
		if i := slices.IndexFunc(ended, func(e []string) bool { return e[0] == job }); i >= 0 {
			if result := ended[i][2]; result != "done" {
				return fmt.Errorf("systemd's job: %s", result)
			}
			return nil
		}
		a, err := c.receive()
		switch {
		case err != nil:
			return err
		case a.kind == methodError && a.reply == 1:
			if a.err == "org.freedesktop.systemd1.UnitExists" {
				return errUnitExists
			}
			return a.refusal()
		case a.kind == methodReturn && a.reply == 1 && len(a.strings) == 1:
			job = a.strings[0]
		case a.kind == signal && a.member == "JobRemoved" && len(a.strings) == 3:
			ended = append(ended, a.strings) // job, unit, result
		}
	}
}

// Delegated is the set for a cgroup whose parent was delegated: that one is
// divided, and nothing above it is touched.
func (s Set) Delegated() Set {
	if n := len(s.Parents); n > 0 {
		s.Parents = []Parent{s.Parents[n-1]}
		s.Parents[0].Visible = true
	}
	return s
}
