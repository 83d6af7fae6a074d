package engine

import (
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/lock/file"
)

// Who waits for a lock while he holds another one gives up in the end.
func TestLockUnder(t *testing.T) {
	e, _ := engineWith(t)
	e.patience = 20 * time.Millisecond
	other, err := file.New(e.conf.Locks()).Lock(t.Context(), lock.Volume, "v")
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.lockUnder(t.Context(), lock.Volume, "v")
	if !cove.Is(err, cove.Unavailable) || err.Error() != "lock volume v: another process is working on it: given up after 20ms" {
		t.Errorf("%v", err)
	}
	if err := other.Unlock(); err != nil {
		t.Fatal(err)
	}
	e.patience = time.Minute // a busy machine may not get round to it in so short a time
	l, err := e.lockUnder(t.Context(), lock.Volume, "v")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Unlock(); err != nil {
		t.Error(err)
	}
}
