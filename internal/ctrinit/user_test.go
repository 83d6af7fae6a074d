package ctrinit

import (
	"strings"
	"testing"
)

// FuzzDatabase reads passwd and group files of hostile images.
func FuzzDatabase(f *testing.F) {
	f.Add([]byte("root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/:/bin/false\n"), "web")
	f.Add([]byte("wheel:x:10:root,web\nbig:x:4294967296:web\n:::\n"), "web")
	f.Add([]byte("a:b:-1:c\r\n\x00:\x00:0:\x00"), "")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		find(data, 7, func(fields []string) bool {
			if len(fields) < 7 {
				t.Errorf("a line of %d fields", len(fields))
			}
			return false
		})
		if gid, ok := findGroup(data, name); ok && gid > 1<<31-1 {
			t.Errorf("group %d", gid)
		}
		for _, gid := range memberships(data, name) {
			if gid > 1<<31-1 || !strings.Contains(string(data), name) {
				t.Errorf("%q is in group %d", name, gid)
			}
		}
	})
}
