package runtime

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
)

// Init that ends before it has heard of the start, or while its hooks run, has not
// executed the command.
func TestExecuted(t *testing.T) {
	for _, init := range []struct {
		hears, hooks bool
		says         wire.Kind
		want         bool
	}{
		{want: false},
		{hears: true, want: true},
		{hears: true, hooks: true, want: false},
		{hears: true, hooks: true, says: wire.Ready, want: true},
	} {
		ours, theirs, err := wire.Pair()
		if err == nil {
			err = wire.Send(ours, wire.Go, nil)
		}
		if err == nil && init.hears {
			_, _, _, err = wire.Receive(theirs, make([]byte, 64))
		}
		if err == nil && init.says != 0 {
			err = wire.Send(theirs, init.says, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(theirs)
		if got, err := executed(ours, init.hooks); err != nil || got != init.want {
			t.Errorf("%+v: %v %v", init, got, err)
		}
		_ = unix.Close(ours)
	}
}
