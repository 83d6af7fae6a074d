package procfs

import "testing"

func TestOtherBoot(t *testing.T) {
	now := BootID()
	if now == "" {
		t.Skip("the kernel tells no boot ID")
	}
	for id, want := range map[string]bool{now: false, "": false, "another": true} {
		if OtherBoot(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}
