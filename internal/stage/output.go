package stage

import (
	"fmt"
	"os"
)

// Output makes a file without a name, in dir, for what a command prints. Unlike
// a pipe, a container's processes that keep a copy of it keep nobody waiting.
func Output(dir string) *os.File {
	f, err := os.CreateTemp(dir, "out")
	if err != nil {
		panic(err)
	}
	_ = os.Remove(f.Name())
	return f
}

// Content is all that is in such a file.
func Content(f *os.File) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return err.Error()
	}
	return string(data)
}
