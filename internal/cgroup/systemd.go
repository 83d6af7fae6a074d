package cgroup

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

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
	c, err := dial(systemdSocket, scopePatience)
	if err != nil {
		return err
	}
	defer c.close()
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
	})
	w.array(func() {}) // no auxiliary units
	err = c.send(call("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
		"StartTransientUnit", "ssa(sv)a(sa(sv))", w.Bytes()))
	if err != nil {
		return err
	}
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
			return errors.New(strings.Join(append([]string{a.err}, a.strings...), ": "))
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
