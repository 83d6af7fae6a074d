package cgroup

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestDetails(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  Detail
	}{
		"version 1": {map[string]string{
			"memory.limit_in_bytes": "9223372036854771712\n", "memory.max_usage_in_bytes": "70\n", "memory.failcnt": "3\n", "memory.stat": "cache 5\nrss 6\n",
			"cpu.stat": "nr_periods 4\nnr_throttled 2\nthrottled_time 9000\n", "cpuset.cpus": "0-1\n", "cpuset.mems": "0\n",
		}, Detail{map[string]uint64{"cache": 5, "rss": 6}, 9223372036854771712, 70, 3, 4, 2, 9000, "0-1", "0"}},
		"version 2": {map[string]string{
			"memory.max": "max\n", "memory.peak": "70\n", "memory.events": "low 1\nmax 3\noom 0\n", "memory.stat": "file 5\n",
			"cpu.stat": "usage_usec 1\nnr_periods 4\nnr_throttled 2\nthrottled_usec 9\n", "cpuset.cpus": "\n", "cpuset.cpus.effective": "0-1\n", "cpuset.mems.effective": "0\n",
		}, Detail{map[string]uint64{"file": 5}, ^uint64(0), 70, 3, 4, 2, 9000, "0-1", "0"}},
	} {
		dir := t.TempDir()
		for file, text := range c.files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Details([]string{dir, filepath.Join(dir, "gone")})
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
