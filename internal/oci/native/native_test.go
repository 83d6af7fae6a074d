package native

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// FuzzCompile compiles specifications that anybody may have written: no panic,
// and a plan that its reader understands.
func FuzzCompile(f *testing.F) {
	golden, err := filepath.Glob("../../spec/testdata/*.json")
	if err != nil || len(golden) == 0 {
		f.Fatal("no specifications to begin with: ", err)
	}
	for _, name := range golden {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		var whole struct{ Spec json.RawMessage }
		if err := json.Unmarshal(raw, &whole); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(whole.Spec), false)
		f.Add([]byte(whole.Spec), true)
	}
	f.Add([]byte(`{"ociVersion":"1.0.2","process":{"args":["x"],"cwd":"/"},"root":{"path":"/r"},"linux":{}}`), true)
	f.Fuzz(func(t *testing.T, raw []byte, runtime bool) {
		var s specs.Spec
		if json.Unmarshal(raw, &s) != nil {
			return
		}
		c, err := Compile(&s, Options{Runtime: runtime})
		if err != nil {
			return
		}
		if _, err := json.Marshal(c.Plan); err != nil {
			t.Errorf("the plan cannot be written: %v", err)
		}
	})
}
