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
			"memory.limit_in_bytes": "9223372036854771712\n", "memory.usage_in_bytes": "60\n", "memory.max_usage_in_bytes": "70\n", "memory.failcnt": "3\n",
			"memory.memsw.limit_in_bytes": "90\n", "memory.memsw.max_usage_in_bytes": "80\n", "memory.kmem.usage_in_bytes": "8\n", "memory.kmem.tcp.failcnt": "1\n",
			"memory.stat": "cache 5\nrss 6\n", "hugetlb.2MB.usage_in_bytes": "4\n", "hugetlb.2MB.failcnt": "2\n", "hugetlb.2MB.rsvd.usage_in_bytes": "9\n",
			"cpu.stat": "nr_periods 4\nnr_throttled 2\nthrottled_time 9000\n", "cpuset.cpus": "0-1\n", "cpuset.mems": "0\n",
			"cpuset.sched_relax_domain_level": "-1\n", "cpuacct.usage_percpu_sys": "1 2\n", "cpuacct.usage_percpu_user": "3 4\n",
			"blkio.throttle.io_service_bytes_recursive": "8:16 Read 4096\n8:16 Sync 1\nTotal 4097\n", "blkio.throttle.io_serviced_recursive": "8:16 Write 2\n",
		}, Detail{
			MemoryStat: map[string]uint64{"cache": 5, "rss": 6}, Memory: Counter{9223372036854771712, 60, 70, 3}, Swap: Counter{Limit: 90, Peak: 80},
			Kernel: Counter{Usage: 8}, KernelTCP: Counter{Failed: 1}, Huge: map[string]Counter{"2MB": {Usage: 4, Failed: 2}},
			Periods: 4, ThrottledPeriods: 2, ThrottledTime: 9000, CPUKernel: []uint64{1, 2}, CPUUser: []uint64{3, 4}, CPUs: "0-1", Nodes: "0",
			Cpuset:  map[string]int64{"sched_relax_domain_level": -1},
			IOBytes: []IO{{8, 16, "Read", 4096}, {8, 16, "Sync", 1}}, IOs: []IO{{8, 16, "Write", 2}},
		}},
		"version 2": {map[string]string{
			"memory.max": "max\n", "memory.current": "60\n", "memory.peak": "70\n", "memory.events": "low 1\nmax 3\noom 0\n", "memory.stat": "file 5\n",
			"cpu.stat": "usage_usec 1\nnr_periods 4\nnr_throttled 2\nthrottled_usec 9\n", "cpuset.cpus": "\n", "cpuset.cpus.effective": "0-1\n", "cpuset.mems.effective": "0\n",
			"io.stat": "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n", "hugetlb.1GB.current": "4\n", "hugetlb.1GB.max": "max\n", "hugetlb.1GB.events": "max 7\n",
			"cpu.pressure": "some avg10=98.64 avg60=0.50 avg300=0.00 total=41860004529\n", "io.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=1.00 avg60=2.00 avg300=3.00 total=4\nmore x\n\n",
		}, Detail{
			MemoryStat: map[string]uint64{"file": 5}, Memory: Counter{^uint64(0), 60, 70, 3}, Huge: map[string]Counter{"1GB": {Limit: ^uint64(0), Usage: 4, Failed: 7}},
			Periods: 4, ThrottledPeriods: 2, ThrottledTime: 9000, CPUs: "0-1", Nodes: "0", Cpuset: map[string]int64{},
			IOBytes: []IO{{8, 16, "Read", 1}, {8, 16, "Write", 2}}, IOs: []IO{{8, 16, "Read", 3}, {8, 16, "Write", 4}},
			CPUPressure: &Pressure{Some: Stall{98.64, 0.5, 0, 41860004529}}, IOPressure: &Pressure{Full: Stall{1, 2, 3, 4}},
		}},
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
