package cdi

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// FuzzInject reads CDI specifications that vendors write: they edit the spec or
// are refused in a line, and then it is as it was.
func FuzzInject(f *testing.F) {
	dir, err := os.MkdirTemp("/dev/shm", "cove-cdi-")
	if err != nil {
		f.Skip(err)
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	for _, s := range []string{
		`{"cdiVersion":"0.6.0","kind":"vendor.com/class","devices":[{"name":"dev","containerEdits":{"env":["A=b"],"deviceNodes":[{"path":"/dev/null"}],"mounts":[{"hostPath":"/tmp","containerPath":"/t"}]}}]}`,
		`{"cdiVersion":"0.6.0","kind":"vendor.com/class","devices":[{"name":"dev","containerEdits":{"hooks":[{"hookName":"createContainer","path":"/bin/true"}]}}],"containerEdits":{"env":["C=d"]}}`,
		`{"cdiVersion":"0.8.0","kind":"vendor.com/class","annotations":{"a":"b"},"devices":[{"name":"dev","containerEdits":{"additionalGids":[5],"intelRdt":{"closID":"x"}}}]}`,
		"cdiVersion: 0.3.0\nkind: vendor.com/class\ndevices:\n- name: dev\n  containerEdits: {env: [A=b]}\n", `{"cdiVersion":"0.7.0","kind":"A/0"}`, "{}", "[", "null",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, "vendor.yaml"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		s := &specs.Spec{Process: &specs.Process{Env: []string{"A=a"}}, Linux: &specs.Linux{}}
		before, _ := json.Marshal(s)
		_, err := Inject(s, []string{dir}, []string{"vendor.com/class=dev"})
		if err == nil {
			return
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: more than a line: %q", text, err)
		}
		if after, _ := json.Marshal(s); !bytes.Equal(before, after) {
			t.Errorf("%q: refused (%v), and the spec became %s", text, err, after)
		}
	})
}
