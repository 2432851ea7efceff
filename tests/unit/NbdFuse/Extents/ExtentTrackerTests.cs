using NbdFuse;

namespace UnitTests.NbdFuseTests;

/// <summary>The map stays true while the export changes and answers are on their way.</summary>
public sealed class ExtentTrackerTests
{
    private const ulong Size = 1 << 20;

    private readonly FakeTime _time = new();

    [Fact]
    public void Writes_are_not_noted_before_somebody_asks()
    {
        ExtentTracker tracker = NewTracker();
        tracker.Changed(0, 100, ExtentKind.Data);

        Assert.Equal(new ExtentRun(0, Size, ExtentKind.Unknown), tracker.Find(0));
    }

    [Fact]
    public void A_write_that_completes_while_a_question_is_in_flight_stays_data()
    {
        ExtentTracker tracker = NewTracker();
        ExtentInquiry inquiry = tracker.Ask(0, Size, out bool isNew)!;
        Assert.True(isNew);
        tracker.Changed(4096, 4096, ExtentKind.Data);

        tracker.End(inquiry, [new ExtentRun(0, Size, ExtentKind.Hole)]);

        Assert.Equal(new ExtentRun(0, 4096, ExtentKind.Hole), tracker.Find(0));
        Assert.Equal(new ExtentRun(4096, 8192, ExtentKind.Data), tracker.Find(4096));
        Assert.Equal(Size - 4096, tracker.HoleBytes(0, Size, out bool isWhole));
        Assert.True(isWhole);
    }

    [Fact]
    public void What_is_zeroed_while_a_question_is_in_flight_is_asked_again()
    {
        ExtentTracker tracker = NewTracker();
        ExtentInquiry inquiry = tracker.Ask(0, Size, out _)!;
        tracker.Changed(4096, 4096, ExtentKind.Unknown);
        tracker.Changed(6000, 10_000, ExtentKind.Unknown);

        tracker.End(inquiry, [new ExtentRun(0, Size, ExtentKind.Data)]);

        Assert.Equal(new ExtentRun(4096, 16_000, ExtentKind.Unknown), tracker.Find(4096));
        Assert.Equal(new ExtentRun(16_000, Size, ExtentKind.Data), tracker.Find(16_000));
        Assert.False(tracker.AskNext(Size)!.Done.IsCompleted);
    }

    [Fact]
    public void Data_that_was_zeroed_and_written_again_is_data()
    {
        ExtentTracker tracker = NewTracker();
        ExtentInquiry inquiry = tracker.Ask(0, Size, out _)!;
        tracker.Changed(0, 100, ExtentKind.Unknown);
        tracker.Changed(50, 10, ExtentKind.Data);

        tracker.End(inquiry, [new ExtentRun(0, Size, ExtentKind.Hole)]);

        Assert.Equal(new ExtentRun(50, 60, ExtentKind.Data), tracker.Find(50));
        Assert.Equal(ExtentKind.Unknown, tracker.Find(0).Kind);
        Assert.Equal(ExtentKind.Unknown, tracker.Find(60).Kind);
        Assert.Equal(ExtentKind.Hole, tracker.Find(100).Kind);
    }

    [Fact]
    public void More_zeroed_ranges_than_are_kept_make_less_of_the_answer_believed()
    {
        ExtentTracker tracker = NewTracker();
        ExtentInquiry inquiry = tracker.Ask(0, Size, out _)!;
        for (ulong i = 1; i <= 100; i++)
        {
            tracker.Changed(i * 1000, 10, ExtentKind.Unknown);
        }

        tracker.End(inquiry, [new ExtentRun(0, Size, ExtentKind.Data)]);

        Assert.Equal(new ExtentRun(0, 1000, ExtentKind.Data), tracker.Find(0));
        for (ulong i = 1; i <= 100; i++)
        {
            Assert.Equal(ExtentKind.Unknown, tracker.Find((i * 1000) + 5).Kind);
        }

        Assert.Equal(ExtentKind.Data, tracker.Find(100_010).Kind);
    }

    [Fact]
    public void Data_that_was_forgotten_for_want_of_room_is_not_filled_from_an_older_answer()
    {
        ExtentTracker tracker = NewTracker(capacity: 8);
        ExtentInquiry inquiry = tracker.Ask(0, Size, out _)!;
        for (ulong i = 0; i < 20; i++)
        {
            tracker.Changed(i * 1000, 10, ExtentKind.Data);
        }

        Assert.False(tracker.HasRoom);
        tracker.End(inquiry, [new ExtentRun(0, Size, ExtentKind.Hole)]);

        for (ulong i = 0; i < 20; i++)
        {
            Assert.NotEqual(ExtentKind.Hole, tracker.Find(i * 1000).Kind);
        }
    }

    [Fact]
    public void Everything_is_forgotten_after_its_lifetime_also_answers_on_their_way()
    {
        ExtentTracker tracker = NewTracker();
        tracker.End(tracker.Ask(0, 4096, out _)!, [new ExtentRun(0, 4096, ExtentKind.Hole)]);
        ExtentInquiry late = tracker.Ask(8192, 4096, out _)!;
        _time.Advance(TimeSpan.FromSeconds(4));
        Assert.Equal(ExtentKind.Hole, tracker.Find(0).Kind);
        _time.Advance(TimeSpan.FromSeconds(2));
        Assert.Equal(ExtentKind.Unknown, tracker.Find(0).Kind);

        // One that was answered after the map was new again, from before a write that nobody noted.
        Assert.NotSame(late, tracker.Ask(8192, 4096, out bool isNew));
        Assert.True(isNew);
        tracker.End(late, [new ExtentRun(8192, 12_288, ExtentKind.Hole)]);
        Assert.Equal(ExtentKind.Unknown, tracker.Find(8192).Kind);
        Assert.True(late.Done.IsCompletedSuccessfully);
    }

    [Fact]
    public void Without_a_lifetime_only_forgetting_forgets()
    {
        ExtentTracker tracker = new(Size, 1, Timeout.InfiniteTimeSpan, _time);
        tracker.End(tracker.Ask(0, Size, out _)!, [new ExtentRun(0, Size, ExtentKind.Hole)]);
        _time.Advance(TimeSpan.FromDays(1));
        Assert.Equal(ExtentKind.Hole, tracker.Find(0).Kind);

        tracker.Forget();

        Assert.Equal(ExtentKind.Unknown, tracker.Find(0).Kind);
    }

    [Fact]
    public void Nobody_asks_twice_for_the_same()
    {
        ExtentTracker tracker = NewTracker();
        ExtentInquiry first = tracker.Ask(10_000, 4096, out _)!;
        Assert.Same(first, tracker.Ask(12_000, 4096, out bool isNew));
        Assert.False(isNew);

        ExtentInquiry before = tracker.AskNext(1 << 16)!;
        Assert.Equal((0UL, 10_000UL), (before.Start, before.End));
        Assert.Equal(14_096UL, tracker.AskNext(1 << 16)!.Start);
    }

    [Fact]
    public void Questions_are_whole_blocks()
    {
        ExtentTracker tracker = new(Size, 4096, Timeout.InfiniteTimeSpan, _time);
        tracker.End(tracker.Ask(0, Size, out _)!, [new ExtentRun(0, Size, ExtentKind.Data)]);
        tracker.Changed(5000, 100, ExtentKind.Unknown);

        ExtentInquiry inquiry = tracker.Ask(5050, Size, out _)!;

        Assert.Equal((4096UL, 8192UL), (inquiry.Start, inquiry.End));
        tracker.End(inquiry, [new ExtentRun(4096, 8192, ExtentKind.Hole)]);
        Assert.Equal(new ExtentRun(5000, 5100, ExtentKind.Hole), tracker.Find(5000));
    }

    [Fact]
    public void Acknowledged_data_is_never_a_hole_whatever_order_things_happen_in()
    {
        for (int seed = 0; seed < 200; seed++)
        {
            Random random = new(seed);
            ExtentTracker tracker = NewTracker(capacity: random.Next(2) == 0 ? 8 : 1000);
            bool[] disk = new bool[64];
            bool[] acknowledged = new bool[64];
            List<(ExtentInquiry Inquiry, List<ExtentRun> Told)> inFlight = [];
            for (int step = 0; step < 300; step++)
            {
                int block = random.Next(64);
                switch (random.Next(6))
                {
                    case 0:
                        if (tracker.Ask((ulong)block * 4096, (ulong)(1 + random.Next(64)) * 4096, out bool isNew) is { } asked && isNew)
                        {
                            inFlight.Add((asked, Tell(disk, asked)));
                        }

                        break;
                    case 1:
                        if (inFlight.Count > 0)
                        {
                            (ExtentInquiry inquiry, List<ExtentRun> told) = inFlight[random.Next(inFlight.Count)];
                            _ = inFlight.Remove((inquiry, told));
                            tracker.End(inquiry, told);
                        }

                        break;
                    case 2:
                        disk[block] = acknowledged[block] = false;
                        tracker.Changed((ulong)block * 4096, 4096, ExtentKind.Unknown);
                        break;
                    case 3:
                        if (random.Next(20) == 0)
                        {
                            tracker.Forget();
                        }

                        break;
                    default:
                        disk[block] = true;
                        tracker.Changed((ulong)block * 4096, 4096, ExtentKind.Data);
                        acknowledged[block] = true;
                        break;
                }

                for (int i = 0; i < 64; i++)
                {
                    Assert.False(
                        acknowledged[i] && tracker.Find((ulong)i * 4096).Kind == ExtentKind.Hole,
                        $"seed {seed}, step {step}: block {i} is data");
                }
            }
        }
    }

    private static List<ExtentRun> Tell(bool[] disk, ExtentInquiry asked)
    {
        List<ExtentRun> told = [];
        for (ulong at = asked.Start; at < asked.End; at += 4096)
        {
            told.Add(new ExtentRun(at, at + 4096, at / 4096 < 64 && disk[at / 4096] ? ExtentKind.Data : ExtentKind.Hole));
        }

        return told;
    }

    private ExtentTracker NewTracker(int capacity = 1000) => new(Size, 1, TimeSpan.FromSeconds(5), _time, capacity);
}
