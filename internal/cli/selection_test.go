package cli

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cove-engine/cove"
)

// Many at a time, told in their order; what another one uses goes after it.
func TestEachTogether(t *testing.T) {
	var out strings.Builder
	a := &app{}
	a.Out = &out
	var all sync.WaitGroup
	all.Add(3)
	var removed atomic.Bool
	first := map[string]*sync.Once{"a": {}, "b": {}, "c": {}}
	ts := []target{{name: "a"}, {name: "b"}, {name: "c"}}
	err := a.eachTogether(context.Background(), ts, false, func(t target) error {
		first[t.name].Do(func() {
			all.Done()
			all.Wait() // one after the other would wait for ever
		})
		switch {
		case t.name == "a" && !removed.Load():
			return cove.E("", "", cove.InUse, errors.New("b uses it"))
		case t.name == "b":
			defer removed.Store(true)
		case t.name == "c":
			return errors.New("c does not go")
		}
		return nil
	})
	if err == nil || err.Error() != "c does not go" {
		t.Errorf("error %v", err)
	}
	if got := out.String(); got != "b\na\n" && got != "a\nb\n" {
		t.Errorf("printed %q", got)
	}
}

// When the command is interrupted no more are begun, and those that were are told.
func TestEachTogetherInterrupted(t *testing.T) {
	var out strings.Builder
	a := &app{}
	a.Out = &out
	why := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(context.Background())
	ts := make([]target, 100)
	for i := range ts {
		ts[i].name = "x"
	}
	err := a.eachTogether(ctx, ts, false, func(target) error {
		cancel(why)
		return nil
	})
	if !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
	if n := strings.Count(out.String(), "x\n"); n == 0 || n == len(ts) {
		t.Errorf("%d were begun", n)
	}
}
