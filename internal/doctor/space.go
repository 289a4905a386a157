package doctor

import (
	"fmt"

	"github.com/opencmq/cmq/internal/datadir"
)

// room is what is free on a disk, and the marks.
type room struct {
	total, free, soft, hard uint64
	inodes, freeInodes      uint64
}

// nearly says how many times the soft mark must be free before nothing is said.
const nearly = 2

// judgeSpace says whether there is room on the disk of a directory.
func judgeSpace(dir string, r room) (list []Finding) {
	what := fmt.Sprintf("%s of %s are free; the soft mark is %s, the hard mark %s", size(r.free), size(r.total), size(r.soft), size(r.hard))
	do := "Free space on the disk or enlarge it. Receiving and deleting messages frees space too, some seconds later. Then everything goes on by itself."
	switch {
	case r.free < r.hard:
		list = append(list, Finding{Error, dir, what, "Below the hard mark sends and receives are refused; deletes go on.", do})
	case r.free < r.soft:
		list = append(list, Finding{Error, dir, what, "Below the soft mark sends are refused (code 6080); receives and deletes go on.", do})
	case r.free < nearly*r.soft:
		list = append(list, Finding{Warning, dir, what, "Soon sends are refused.", do})
	}
	if r.inodes == 0 {
		return list
	}
	what = fmt.Sprintf("%d of %d inodes are free; sends are refused below %d, receives below %d", r.freeInodes, r.inodes, datadir.SoftInodes, datadir.HardInodes)
	do = "Remove small files from this file system, or move the data directory to one with more inodes."
	switch {
	case r.freeInodes < datadir.HardInodes:
		list = append(list, Finding{Error, dir, what, "The node can hardly make files: sends and receives are refused.", do})
	case r.freeInodes < datadir.SoftInodes:
		list = append(list, Finding{Error, dir, what, "The node can make few more files: sends are refused.", do})
	case r.freeInodes < nearly*datadir.SoftInodes:
		list = append(list, Finding{Warning, dir, what, "Soon sends are refused.", do})
	}
	return list
}

// size is a number of bytes for people.
func size(n uint64) string {
	if n < 10_000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if f /= 1024; f < 1000 {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}
