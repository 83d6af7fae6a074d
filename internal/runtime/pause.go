package runtime

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
)

// Pause freezes a container.
func (r *Runtime) Pause(id string) error { return r.turn(id, cgroup.Freeze, Running, Created) }

// Resume thaws a paused one.
func (r *Runtime) Resume(id string) error { return r.turn(id, cgroup.Thaw, Paused) }

func (r *Runtime) turn(id string, do func([]string) error, from ...Status) error {
	c, err := r.Open(id)
	if err != nil {
		return err
	}
	status, err := c.Status()
	if err != nil {
		return err
	}
	for _, f := range from {
		if status != f {
			continue
		}
		dirs, err := c.all()
		if err != nil {
			return err
		}
		err = do(dirs)
		if err != nil && !c.alive() {
			err = errNotRunning()
		}
		return err
	}
	what := "paused"
	if from[0] == Running {
		what = "running or created"
	}
	return cove.E("", "", cove.WrongStatus, errors.New("container not "+what+": it is "+string(status)))
}

// Pids are the processes of a container, as the caller numbers them.
func (r *Runtime) Pids(id string) ([]int, error) {
	c, err := r.Open(id)
	if err != nil {
		return nil, err
	}
	if !c.Own {
		return nil, nil
	}
	dirs, err := c.own()
	if err != nil {
		return nil, err
	}
	return cgroup.Pids(dirs)
}

// Lines gives the lines of ps(1)'s output that are about the pids: the first,
// and those with one of them in the column PID.
func Lines(text string, pids []int) []string {
	column := -1
	var kept []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		fields := strings.Fields(line)
		if kept == nil {
			column = slices.Index(fields, "PID")
			kept = append(kept, line)
			continue
		}
		if column < 0 || column >= len(fields) {
			continue
		}
		if pid, err := strconv.Atoi(fields[column]); err == nil && slices.Contains(pids, pid) {
			kept = append(kept, line)
		}
	}
	return kept
}
