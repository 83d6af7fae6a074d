package drive

import (
	"os"
	"path/filepath"
	"testing"
)

// The new images take the place of those of the checkpoint before, once, whatever of that
// was killed.
func TestKeep(t *testing.T) {
	for _, test := range []struct{ name, dir, unfinished, replaced string }{
		{"the first", "", "new", ""},
		{"another", "before", "new", ""},
		{"killed at the removal of what was replaced", "new", "", "before"},
		{"the same, before another", "before", "new", "long before"},
	} {
		dir := filepath.Join(t.TempDir(), "checkpoint")
		for at, images := range map[string]string{dir: test.dir, dir + Unfinished: test.unfinished, dir + replaced: test.replaced} {
			if images == "" {
				continue
			}
			if err := os.Mkdir(at, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at+"/inventory.img", []byte(images), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := Keep(dir); err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			if images, err := os.ReadFile(dir + "/inventory.img"); string(images) != "new" {
				t.Errorf("%s: %q, %v", test.name, images, err)
			}
			if all, _ := filepath.Glob(dir + ".*"); len(all) > 0 {
				t.Errorf("%s: %q are left", test.name, all)
			}
		}
	}
}
