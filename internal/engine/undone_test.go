package engine

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/state"
)

// that is being started once more, nor of one whose monitor was killed.
func TestReclaim(t *testing.T) {
	for _, test := range []struct {
		name     string
		recorded uint64 // the starts that the record knows of
		run      cove.Run
		want     bool
	}{
		{"down", 1, cove.Run{Down: true}, true},
		{"starts", 2, cove.Run{Down: true}, false},
		{"ends", 1, cove.Run{}, false},
		{"monitor lost", 1, cove.Run{PID: 1 << 30}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, _ := engineWith(t)
			n := cove.Network{Name: "n", Subnets: []cove.Subnet{{Subnet: netip.MustParsePrefix("10.9.9.0/30"), Gateway: netip.MustParseAddr("10.9.9.1")}}}
			if _, err := e.CreateNetwork(t.Context(), n, false); err != nil {
				t.Fatal(err)
			}
			c := stored(t, e, "c", func(c *cove.Container) {
				onNetwork("n")(c)
				c.Run.Generation, c.Run.BootID = test.recorded, procfs.BootID()
			})
			h := held{e: e, Container: Container{Container: *c, Dir: e.dir(c.ID)}}
			h.Run = test.run
			h.Run.Generation, h.Run.BootID, h.Run.Started = 1, procfs.BootID(), time.Now()
			if err := h.writeRun(); err != nil {
				t.Fatal(err)
			}
			other := &cove.Container{ID: newID()}
			onNetwork("n")(other)
			err := e.update(func(tx state.Tx) error { return e.lease(tx, other) })
			if test.want && err != nil {
				t.Errorf("its address is not to be had: %v", err)
			} else if !test.want {
				wantKind(t, err, cove.Unavailable, "failed to find free IP")
			}
		})
	}
}
