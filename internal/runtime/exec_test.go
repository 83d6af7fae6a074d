package runtime

import (
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
)

// An exec enters the cgroups that were made for its container, not what is in their
// place when it has ended.
func TestExecCgroups(t *testing.T) {
	dir := t.TempDir()
	inodes, err := cgroup.Inodes([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	c := &Container{record: record{Cgroups: []string{dir}, Inodes: inodes}}
	if dirs, err := c.below(nil); err != nil || len(dirs) != 1 || dirs[0] != dir {
		t.Errorf("its own: %v %v", dirs, err)
	}
	c.Inodes[0]++
	for _, names := range []map[string]string{nil, {"": "inner"}} {
		if dirs, err := c.below(names); !cove.Is(err, cove.WrongStatus) {
			t.Errorf("another's, below %v: %v %v", names, dirs, err)
		}
	}
}
