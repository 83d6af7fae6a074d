package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/state"
)

// A command that is killed while it starts a container leaves it a cgroup and a
// directory, and one that was to go with its end a record, too. Whoever names the
// container settles that; nobody would name one that he was never told of. So the
// transaction that records a start also takes note of it, and every later write
// looks at the notes, of which there are no more than starts under way.

// startingKey is the meta key of that: lines "ID GENERATION PID START", of the
// container, its run and the process that starts it.
const startingKey = "starting"

// start is one of the lines.
type start struct {
	id         string
	generation uint64
	by         cove.Process
}

func (s start) String() string {
	return fmt.Sprint(s.id, " ", s.generation, " ", s.by.PID, " ", s.by.Start)
}

// noteStart takes note of a start that this transaction records.
func noteStart(tx state.Tx, c *cove.Container, by cove.Process) error {
	raw, err := tx.Meta(startingKey)
	if err != nil {
		return err
	}
	line := start{c.ID, c.Run.Generation, by}.String()
	if len(raw) > 0 {
		line = string(raw) + "\n" + line
	}
	return tx.SetMeta(startingKey, []byte(line))
}

// startsCut gives the containers whose start was cut short and is not settled,
// and forgets the notes of those that are done with.
func (e *Engine) startsCut(tx state.Tx) (cut []string, err error) {
	raw, err := tx.Meta(startingKey)
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	var left []string
	for line := range strings.SplitSeq(string(raw), "\n") {
		var s start
		if n, _ := fmt.Sscan(line, &s.id, &s.generation, &s.by.PID, &s.by.Start); n != 4 {
			continue
		}
		underWay, killed, err := e.startOf(tx, s)
		if err != nil {
			return nil, err
		}
		if underWay || killed {
			left = append(left, line)
		}
		if killed {
			cut = append(cut, s.id)
		}
	}
	if text := strings.Join(left, "\n"); text == "" {
		err = tx.SetMeta(startingKey, nil)
	} else if text != string(raw) {
		err = tx.SetMeta(startingKey, []byte(text))
	}
	return cut, err
}

// startOf tells whether a start goes on, or has been killed and nothing of it
// lives any more.
func (e *Engine) startOf(tx state.Tx, s start) (underWay, killed bool, err error) {
	dir := e.dir(s.id)
	if run, err := runfile.Read(dir); err == nil && run.Generation >= s.generation || e.gone(s.id) {
		return false, false, nil // it runs, has run, or its failure is recorded
	}
	c := new(cove.Container)
	err = tx.Get(state.Containers, s.id, c)
	switch {
	case cove.Is(err, cove.NotFound), errors.Is(err, state.ErrDamaged):
		return false, false, nil
	case err != nil:
		return false, false, err
	case c.Run.Generation != s.generation || c.Intent == cove.BeingRemoved || procfs.OtherBoot(c.Run.BootID):
		return false, false, nil
	}
	underWay = procfs.Lives(s.by.PID, s.by.Start) || alive(dir) || e.undecided(&Container{Container: *c})
	return underWay, !underWay, nil
}

// settleStart takes down what a start that was cut short has left, unless
// somebody else is at it. It is called where other locks are held: nobody is
// waited for. One that was to go with its end is put where a monitor would have
// put it, for the next write to finish.
func (e *Engine) settleStart(id string) {
	l, err := e.locks.TryLock(context.Background(), lock.Container, id)
	if err != nil {
		return
	}
	h := &held{e: e, lock: l}
	defer h.release()
	if err := h.read(id); err != nil {
		if cove.Is(err, cove.NotFound) {
			_ = e.locks.Forget(lock.Container, id) // it was made by asking for it
		}
		return
	}
	if !h.cutShort() || !h.over || e.gone(id) {
		return
	}
	if !h.neverRan() {
		if h.remake() == nil {
			_ = h.undoStart()
		}
		return
	}
	if users, err := e.sharers(id); err != nil || len(users) > 0 || e.clear(&h.Container) != nil {
		return
	}
	if exists(h.Dir) {
		_ = os.Rename(h.Dir, e.removedDir(id))
	} else {
		_ = os.Mkdir(e.removedDir(id), 0o700)
	}
}

// neverRan tells of a container that goes with its end that its one run was
// killed before the command was let go.
func (h *held) neverRan() bool {
	return h.Status == cove.Created && h.Spec.Remove && h.Desired == cove.DesireRun
}
