package step

import "fmt"

// An ID names one place in a protocol at which a crash test can intervene.
//
// The numbers are written out because they appear in environment variables, in
// seeds and in recorded failures: a new step gets the next free number at the
// end of its list and a line in names; a number is never given twice.
type ID int

// The steps, in the order in which the protocols pass them.
const (
	ClaimBefore  ID = 1 // the writer has found a FREE word, nothing is written
	ClaimAfter   ID = 2 // the claim is in the log, its frame is empty
	CommitBefore ID = 3 // the frame is copied and summed, still CLAIMED
	CommitAfter  ID = 4 // the frame is visible, nobody is woken

	GrowBefore ID = 5 // the segment needs another extent, none is allocated
	GrowAfter  ID = 6 // the extent is allocated, its size is not published

	SealBefore ID = 7 // no room is left, the word at the end is FREE
	SealAfter  ID = 8 // the segment is sealed, it has no successor

	RollTempMade     ID = 9  // the successor exists under its temporary name
	RollHeaderSynced ID = 10 // its header is on disk
	RollLinked       ID = 11 // it has its final name as well
	RollTempUnlinked ID = 12 // it has only its final name
	RollDirSynced    ID = 13 // its name is on disk, the segment does not say so

	SyncIntentSet     ID = 14 // the intent is published, nothing is flushed
	SyncFlushBefore   ID = 15 // the next range is chosen, its flush has not begun
	SyncFlushed       ID = 16 // the flush has succeeded, nobody knows
	SyncDurableRaised ID = 17 // the durable position is raised, the intent stands
	SyncIntentCleared ID = 18 // the sync is over, its waiters sleep
	SyncPoisoned      ID = 19 // a flush has failed and the queue says so

	AheadWriteBefore ID = 150 // pages ahead of the tail are dirty, their write has not begun

	SlotLocked            ID = 20 // the slot's byte is locked, its old claims stand
	SlotPadded            ID = 21 // the old owner's claims are PADs
	SlotIncarnationRaised ID = 22 // the slot has its new incarnation
	SlotReleased          ID = 23 // the slot's byte is free again

	RecoverLocked         ID = 24 // the recovery lock is held
	RecoverScanned        ID = 25 // the cut is known, nothing is written
	RecoverCutCleared     ID = 26 // what follows the cut is cleared
	RecoverJumpWritten    ID = 27 // the SEAL_JUMP stands in the mapping
	RecoverJumpSynced     ID = 28 // the SEAL_JUMP is on disk
	RecoverQuarantined    ID = 29 // what recovery cannot use is moved aside
	RecoverSegmentMade    ID = 30 // the segment after the jump exists
	RecoverControlWritten ID = 31 // the control file is new in the mapping
	RecoverControlSynced  ID = 32 // the control file is new on disk

	CleanMarkWritten ID = 33 // the last participant has left a clean mark
	CleanMarkRemoved ID = 34 // the first participant has taken it away

	TrimOldestSet     ID = 35 // what is trimmed no longer counts, nothing is on disk
	TrimControlSynced ID = 36 // that is on disk, every file is still there
	TrimUnlinked      ID = 37 // one file is gone, others may follow

	SleepLeafMarked    ID = 38 // the sleeper's bit is set, no summary says so
	SleepMarked        ID = 39 // the summary says so, the sleeper has yet to look
	WakeSummaryCleared ID = 40 // the waker has the summary, every leaf is as it was
	WakeLeafTaken      ID = 41 // the waker has one leaf's bits, nobody is woken

	SocketUnlinked ID = 42 // no socket has the sleeper's name, a former one is gone
	SocketBound    ID = 43 // the socket has its name, and the mode that the umask left
	SocketReady    ID = 44 // it has its mode, no bit is set
	SocketClosed   ID = 45 // whoever leaves has closed it, its name is still there

	SleepLooked ID = 46 // the sleeper has looked once more, it does not receive yet
	WakeSent    ID = 47 // the waker has woken one of those whose bits it took

	SyncFailed ID = 48 // a flush has failed and nobody knows

	TrimAsked ID = 49 // it is known what must stay, nothing is trimmed

	CheckpointWritten ID = 50 // a group's checkpoint is the next one, not on disk
)

// The steps of repair.
const (
	RepairLocked         ID = 60 // nobody else is in the queue, nothing is written
	RepairCopied         ID = 61 // the mended copy of one file is on disk, under a temporary name
	RepairKept           ID = 62 // one original has a second name in quarantine
	RepairQuarantined    ID = 63 // all of them have, on disk too
	RepairRenamed        ID = 64 // one mended copy has taken its original's place
	RepairLogSynced      ID = 65 // all have, on disk too; the control file is as it was
	RepairControlWritten ID = 66 // the control file is mended, but not on disk; a poison stands
	RepairControlSynced  ID = 67 // it is on disk; a poison stands
	RepairPoisonCleared  ID = 68 // the poison is gone, but not on disk
)

// The steps of groups.
const (
	GroupClaimBefore    ID = 70 // an ordinal is free and is about to be claimed
	GroupClaimed        ID = 71 // it is leased; nobody knows which message it is, or until when
	GroupSeqStored      ID = 72 // the message is known, the deadline is not
	GroupDeadlineStored ID = 73 // the lease is whole, the message is not handed out
	GroupTakeBefore     ID = 74 // an ordinal that was sent back is about to be taken
	GroupTaken          ID = 75 // it is leased again, its deadline is the former one's
	GroupFinishBefore   ID = 76 // the message is done with, the ring does not say so
	GroupFinished       ID = 77 // it says so, the floor stands
	GroupDueStored      ID = 78 // the time of a delay is stored, the lease stands
	GroupSentBack       ID = 79 // the ordinal may be taken, nobody is told
	GroupFloorBefore    ID = 80 // what is finished is counted, the floor stands

	GroupBaseWritten ID = 81 // the record of the next base is written
	GroupRingReset   ID = 82 // every entry is of a lap before it
	GroupFloorSet    ID = 83 // the floor is its ordinal, it does not count yet
	GroupBaseCounts  ID = 84 // it counts

	GroupTempMade ID = 85 // a new group exists under its temporary name, on disk
	GroupLinked   ID = 86 // it has its final name as well

	GroupBaseForgotten   ID = 95 // what the ring holds of a base that never came into force counts for nothing
	GroupBaseEmptied     ID = 96 // one more entry is of a lap before the next base
	GroupBaseMarked      ID = 97 // one more message is marked as finished in it
	GroupBasePassed      ID = 98 // passed is the next base's, the floor is not
	GroupCheckpointReady ID = 99 // the ring is on disk, the checkpoint is not

	KeyMarkBefore ID = 110 // somebody has to wait for the key of a message, which is not marked yet
	KeyMarked     ID = 111 // it is marked; who waits has not looked at it again
	KeyFreed      ID = 112 // a message with a mark is finished, and nobody was woken
)

// The steps of groups' delay files.
const (
	DelayTempMade    ID = 130 // a delay file exists under its temporary name, on disk
	DelayLinked      ID = 131 // it has its final name as well, nobody is told
	DelayGrowBefore  ID = 132 // it is about to be made longer
	DelayGrown       ID = 133 // it is longer, nobody is told
	DelayPending     ID = 134 // a cell has an owner, nothing is in it
	DelayFilled      ID = 135 // all is in it, the ring does not know
	DelayPlaceStored ID = 136 // the entry's time names the cell, the lease stands
	DelayMoving      ID = 137 // the entry is moving, the cell does not wait
	DelayWaits       ID = 138 // the cell waits, the entry is moving
	DelayMoved       ID = 139 // the entry is done with, nobody is told
	DelayTakeBefore  ID = 140 // a message is due and about to be taken
	DelayTaken       ID = 141 // its cell is leased; until when nobody knows
	DelayLeaseStored ID = 142 // the lease is whole, the message is not handed out
	DelayFinished    ID = 143 // the cell is free, the ring does not say so
	DelaySentBack    ID = 144 // the cell may be taken, nobody is told
	DelayPurged      ID = 145 // a base: cells whose messages the ring brings again are free
	DelayFlushBefore ID = 146 // the file is about to be synced
	DelayFlushed     ID = 147 // it is synced, the group's own file is not
	LeaseRelease     ID = 148 // somebody is about to take a lease from its holder, by what it saw before
	DelayUnlinked    ID = 149 // the group is being removed, its delay file is gone
)

// names holds the name of each step at its number.
var names = [...]string{
	ClaimBefore:           "ClaimBefore",
	ClaimAfter:            "ClaimAfter",
	CommitBefore:          "CommitBefore",
	CommitAfter:           "CommitAfter",
	GrowBefore:            "GrowBefore",
	GrowAfter:             "GrowAfter",
	SealBefore:            "SealBefore",
	SealAfter:             "SealAfter",
	RollTempMade:          "RollTempMade",
	RollHeaderSynced:      "RollHeaderSynced",
	RollLinked:            "RollLinked",
	RollTempUnlinked:      "RollTempUnlinked",
	RollDirSynced:         "RollDirSynced",
	SyncIntentSet:         "SyncIntentSet",
	SyncFlushBefore:       "SyncFlushBefore",
	SyncFlushed:           "SyncFlushed",
	SyncDurableRaised:     "SyncDurableRaised",
	SyncIntentCleared:     "SyncIntentCleared",
	SyncPoisoned:          "SyncPoisoned",
	SlotLocked:            "SlotLocked",
	SlotPadded:            "SlotPadded",
	SlotIncarnationRaised: "SlotIncarnationRaised",
	SlotReleased:          "SlotReleased",
	RecoverLocked:         "RecoverLocked",
	RecoverScanned:        "RecoverScanned",
	RecoverCutCleared:     "RecoverCutCleared",
	RecoverJumpWritten:    "RecoverJumpWritten",
	RecoverJumpSynced:     "RecoverJumpSynced",
	RecoverQuarantined:    "RecoverQuarantined",
	RecoverSegmentMade:    "RecoverSegmentMade",
	RecoverControlWritten: "RecoverControlWritten",
	RecoverControlSynced:  "RecoverControlSynced",
	CleanMarkWritten:      "CleanMarkWritten",
	CleanMarkRemoved:      "CleanMarkRemoved",
	TrimOldestSet:         "TrimOldestSet",
	TrimControlSynced:     "TrimControlSynced",
	TrimUnlinked:          "TrimUnlinked",
	SleepLeafMarked:       "SleepLeafMarked",
	SleepMarked:           "SleepMarked",
	WakeSummaryCleared:    "WakeSummaryCleared",
	WakeLeafTaken:         "WakeLeafTaken",
	RepairLocked:          "RepairLocked",
	RepairCopied:          "RepairCopied",
	RepairKept:            "RepairKept",
	RepairQuarantined:     "RepairQuarantined",
	RepairRenamed:         "RepairRenamed",
	RepairLogSynced:       "RepairLogSynced",
	RepairControlWritten:  "RepairControlWritten",
	RepairControlSynced:   "RepairControlSynced",
	RepairPoisonCleared:   "RepairPoisonCleared",
	GroupClaimBefore:      "GroupClaimBefore",
	GroupClaimed:          "GroupClaimed",
	GroupSeqStored:        "GroupSeqStored",
	GroupDeadlineStored:   "GroupDeadlineStored",
	GroupTakeBefore:       "GroupTakeBefore",
	GroupTaken:            "GroupTaken",
	GroupFinishBefore:     "GroupFinishBefore",
	GroupFinished:         "GroupFinished",
	GroupDueStored:        "GroupDueStored",
	GroupSentBack:         "GroupSentBack",
	GroupFloorBefore:      "GroupFloorBefore",
	GroupBaseWritten:      "GroupBaseWritten",
	GroupRingReset:        "GroupRingReset",
	GroupFloorSet:         "GroupFloorSet",
	GroupBaseCounts:       "GroupBaseCounts",
	GroupTempMade:         "GroupTempMade",
	GroupLinked:           "GroupLinked",
	GroupBaseForgotten:    "GroupBaseForgotten",
	GroupBaseEmptied:      "GroupBaseEmptied",
	GroupBaseMarked:       "GroupBaseMarked",
	GroupBasePassed:       "GroupBasePassed",
	GroupCheckpointReady:  "GroupCheckpointReady",
	KeyMarkBefore:         "KeyMarkBefore",
	KeyMarked:             "KeyMarked",
	KeyFreed:              "KeyFreed",
	DelayTempMade:         "DelayTempMade",
	DelayLinked:           "DelayLinked",
	DelayGrowBefore:       "DelayGrowBefore",
	DelayGrown:            "DelayGrown",
	DelayPending:          "DelayPending",
	DelayFilled:           "DelayFilled",
	DelayPlaceStored:      "DelayPlaceStored",
	DelayMoving:           "DelayMoving",
	DelayWaits:            "DelayWaits",
	DelayMoved:            "DelayMoved",
	DelayTakeBefore:       "DelayTakeBefore",
	DelayTaken:            "DelayTaken",
	DelayLeaseStored:      "DelayLeaseStored",
	DelayFinished:         "DelayFinished",
	DelaySentBack:         "DelaySentBack",
	DelayPurged:           "DelayPurged",
	DelayFlushBefore:      "DelayFlushBefore",
	DelayFlushed:          "DelayFlushed",
	DelayUnlinked:         "DelayUnlinked",
	AheadWriteBefore:      "AheadWriteBefore",
	SocketUnlinked:        "SocketUnlinked",
	SocketBound:           "SocketBound",
	SocketReady:           "SocketReady",
	SocketClosed:          "SocketClosed",
	SleepLooked:           "SleepLooked",
	WakeSent:              "WakeSent",
	SyncFailed:            "SyncFailed",
	TrimAsked:             "TrimAsked",
	CheckpointWritten:     "CheckpointWritten",
	LeaseRelease:          "LeaseRelease",
}

// String returns the step's name, or its number in parentheses if it has none.
func (id ID) String() string {
	if !id.valid() {
		return fmt.Sprintf("step(%d)", int(id))
	}
	return names[id]
}

func (id ID) valid() bool { return id > 0 && int(id) < len(names) && names[id] != "" }

// IDs returns every step in the order of the numbers, for a test that goes
// through all of them.
func IDs() []ID {
	ids := make([]ID, 0, len(names))
	for n := 1; n < len(names); n++ {
		if ID(n).valid() {
			ids = append(ids, ID(n))
		}
	}
	return ids
}
