package capability

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNumber(t *testing.T) {
	for name, want := range map[string]uint{
		"CAP_CHOWN": unix.CAP_CHOWN, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_SETFCAP": unix.CAP_SETFCAP, "CAP_CHECKPOINT_RESTORE": unix.CAP_LAST_CAP,
	} {
		if n, ok := Number(name); !ok || n != want {
			t.Errorf("%s: %d, %v, want %d", name, n, ok, want)
		}
	}
	for _, name := range []string{"", "CHOWN", "cap_chown", "CAP_NONE"} {
		if n, ok := Number(name); ok {
			t.Errorf("%q has number %d", name, n)
		}
	}
	if all := Sorted(); len(all) != unix.CAP_LAST_CAP+1 || !slices.IsSorted(all) || len(slices.Compact(all)) != len(names) {
		t.Errorf("sorted: %q", all)
	}
}
