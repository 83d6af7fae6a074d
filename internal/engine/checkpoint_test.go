package engine

import (
	"context"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/ctrinit/drive"
)

// Who waits for another checkpoint to be made has others stop and remove the container, and
// can give up.
func TestTurnLetsOthersIn(t *testing.T) {
	e, _ := engineWith(t)
	c := stored(t, e, "a", nil)
	if err := os.MkdirAll(e.dir(c.ID), 0o700); err != nil {
		t.Fatal(err)
	}
	another, err := drive.Turn(e.dir(c.ID), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(another)
	h, err := e.hold(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer h.release()
	ctx, giveUp := context.WithCancel(t.Context())
	go func() {
		defer giveUp()
		if h, err := e.hold(t.Context(), "a"); err != nil {
			t.Error(err)
		} else {
			h.release()
		}
	}()
	if _, err := h.turn(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v; want that it is given up", err)
	}
}
