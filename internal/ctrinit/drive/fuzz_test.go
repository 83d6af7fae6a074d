package drive

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a runtime writes into its log becomes one line, whatever it is.
func FuzzLastError(f *testing.F) {
	for _, s := range []string{
		`{"level":"error","msg":"no","time":"x"}` + "\n", `{"level":"error","msg":"a"}{"level":"error","msg":"b"}`,
		`time="x" level=error msg="a \"b\""` + "\n", "in words\n", `{"level":`, "level=error msg=\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if text := lastError(name, "runc start"); strings.ContainsAny(text, "\n\r\t") {
			t.Errorf("%q", text)
		}
	})
}
