package engine

import (
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/memory"
)

func TestSharedLabel(t *testing.T) {
	for label, want := range map[string]string{
		"system_u:object_r:container_file_t:s0:c1,c2":     "system_u:object_r:container_file_t:s0",
		"system_u:object_r:container_file_t:s0-s0:c0.c99": "system_u:object_r:container_file_t:s0",
		"system_u:object_r:container_file_t:s0":           "system_u:object_r:container_file_t:s0",
		"system_u:object_r:container_file_t":              "system_u:object_r:container_file_t", // a policy without levels
		"":                                                "",
	} {
		if got := shared(label); got != want {
			t.Errorf("%q: %q, want %q", label, got, want)
		}
	}
}

func TestTypeOf(t *testing.T) {
	for _, test := range []struct{ label, other, want string }{
		{"system_u:system_r:container_t:s0:c1,c2", "system_u:system_r:container_kvm_t:s0:c7,c8", "system_u:system_r:container_kvm_t:s0:c1,c2"},
		{"system_u:system_r:container_t:s0:c1,c2", "", "system_u:system_r:container_t:s0:c1,c2"}, // the policy has none
	} {
		got, err := typeOf(test.label, test.other)
		if err != nil || got != test.want {
			t.Errorf("%s, %s: %s, %v", test.label, test.other, got, err)
		}
	}
	if got, err := typeOf("nonsense", "system_u:system_r:container_kvm_t:s0"); err == nil {
		t.Errorf("nonsense: %s", got)
	}
}

// A level is another container's only as a whole.
func TestLevelTaken(t *testing.T) {
	store := memory.Open()
	okay(t, store.Update(func(tx state.Tx) error {
		return tx.Put(state.Containers, "a", &cove.Container{ID: "a", ProcessLabel: "u:r:t:s0:c1,c23", MountLabel: "u:r:f:s0:c1,c23"})
	}))
	for level, want := range map[string]bool{"s0:c1,c23": true, "s0:c1,c2": false, "s0:c1,c234": false, "s0:c11,c23": false, "s0": false, "c1,c23": true} {
		okay(t, store.View(func(tx state.Tx) error {
			taken, err := levelTaken(tx, "u:r:t:"+level)
			if taken != want {
				t.Errorf("%s: %v, want %v", level, taken, want)
			}
			return err
		}))
	}
}

func TestTheHosts(t *testing.T) {
	t.Setenv("HOME", "/home/me/")
	for name, want := range map[string]bool{
		"/": true, "/usr": true, "/usr/": true, "/var/lib": true, "/home/me": true, "/home/me/data": false, "/srv/x": false, "/var/lib/x": false,
	} {
		if theHosts(name) != want {
			t.Errorf("%s: %v, want %v", name, !want, want)
		}
	}
}
