package tasks

import (
	"os"
	"testing"
)

func TestLacking(t *testing.T) {
	for _, c := range []struct {
		max, current string
		want         bool
	}{
		{"max\n", "100\n", false}, {"10\n", "2\n", false}, {"10\n", "3\n", true}, {"4\n", "0\n", true}, {"", "", false}, {"10\n", "", false},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"pids.max": c.max, "pids.current": c.current} {
			if text == "" {
				continue
			}
			if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := Lacking(dir); got != c.want {
			t.Errorf("max %q, current %q: lacking %v", c.max, c.current, got)
		}
	}
}
