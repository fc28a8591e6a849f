// Package powercut cuts the power of a real file system beneath real walq
// processes, again and again, and looks each time whether everything is there
// that was acknowledged. It holds tests only:
//
//	make powercut N=20
//
// The file system is ext4 on a loop device. The cut is the kernel's own: from one
// instant on nothing more is written, and what was not is forgotten with the page
// cache when the file system is mounted again. So what the kernel writes, in what
// order and when, is the kernel's doing and not a model of it. What the disk's own
// cache would lose is not covered: a loop device has none.
package powercut
