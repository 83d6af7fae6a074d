package state_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/memory"
)

func TestRemember(t *testing.T) {
	was := state.Paths{GraphRoot: "/g", RunRoot: "/r", VolumePath: "/g/cove/volumes", Driver: "overlay"}
	with := func(p state.Paths, change func(*state.Paths)) state.Paths { change(&p); return p }
	for name, c := range map[string]struct {
		now     state.Paths
		has     state.Bucket
		running string
		refused string // a word of the message; "" for none
	}{
		"the same":                       {now: was, has: state.Containers},
		"moved root":                     {now: state.Paths{GraphRoot: "/n", RunRoot: "/r", VolumePath: "/n/cove/volumes", Driver: "overlay"}, has: state.Volumes},
		"moved root and run root":        {now: state.Paths{GraphRoot: "/n", RunRoot: "/s", VolumePath: "/n/cove/volumes", Driver: "overlay"}, has: state.Containers},
		"driver, nothing made":           {now: with(was, func(p *state.Paths) { p.Driver = "vfs" }), has: state.Volumes},
		"driver, a container":            {now: with(was, func(p *state.Paths) { p.Driver = "vfs" }), has: state.Containers, refused: "--storage-driver overlay"},
		"volumes elsewhere, none":        {now: with(was, func(p *state.Paths) { p.VolumePath = "/v" }), has: state.Containers},
		"volumes elsewhere, one":         {now: with(was, func(p *state.Paths) { p.VolumePath = "/v" }), has: state.Volumes, refused: "--volumepath /g/cove/volumes"},
		"run root, nothing runs":         {now: with(was, func(p *state.Paths) { p.RunRoot = "/s" }), has: state.Containers},
		"run root, a container runs":     {now: with(was, func(p *state.Paths) { p.RunRoot = "/s" }), has: state.Containers, running: "web", refused: "--runroot /r"},
		"a root with the old as its end": {now: with(was, func(p *state.Paths) { p.GraphRoot = "/h/g" }), has: state.Volumes, refused: "volume path"},
	} {
		s := memory.Open()
		put := func(tx state.Tx) error { return tx.Put(c.has, "one", map[string]string{"name": "one"}) }
		if err := state.Remember(s, was, nil).Update(put); err != nil {
			t.Fatal(err)
		}
		running := func(state.Tx) (string, error) { return c.running, nil }
		now := state.Remember(s, c.now, running)
		for what, err := range map[string]error{
			"view":   now.View(func(state.Tx) error { return nil }),
			"update": now.Update(func(state.Tx) error { return nil }),
		} {
			switch {
			case c.refused == "" && err != nil:
				t.Errorf("%s: %s: %v", name, what, err)
			case c.refused != "" && (!cove.Is(err, cove.Invalid) || !strings.Contains(err.Error(), c.refused)):
				t.Errorf("%s: %s: got %v, want %s", name, what, err, c.refused)
			}
		}
		want := c.now
		if c.refused != "" {
			want = was
		}
		err := s.View(func(tx state.Tx) error {
			raw, err := tx.Meta("paths")
			var got state.Paths
			if json.Unmarshal(raw, &got) != nil || got != want {
				t.Errorf("%s: remembers %s, want %v", name, raw, want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
