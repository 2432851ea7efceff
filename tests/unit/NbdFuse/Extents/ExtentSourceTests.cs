using global::Nbd;
using global::Nbd.Protocol;
using Linux;
using NbdFuse;

namespace UnitTests.NbdFuseTests;

/// <summary>Asking: how much at a time, short answers, errors, sizes beyond 2 TiB. The test plays the server.</summary>
public sealed class ExtentSourceTests
{
    private const ulong GiB = 1UL << 30;

    private readonly FakeTime _time = new();
    private readonly List<Question> _questions = [];
    private readonly List<string> _told = [];

    // Other threads ask, too.
    private readonly Lock _gate = new();

    [Fact]
    public async Task With_compact_headers_at_most_2_GiB_are_asked_for_and_far_beyond_2_TiB()
    {
        ExtentSource source = NewSource(1UL << 62, extended: false);

        Task learnt = source.Learn(1UL << 61);
        Question question = Take();
        Assert.Equal((1UL << 61, 2 * GiB), (question.Offset, question.Length));
        question.Answer((4096, 0), ((2 * GiB) - 4096, 3));
        await learnt;

        Assert.Equal(ExtentKind.Data, source.Find(1UL << 61).Kind);
        Assert.Equal(new ExtentRun((1UL << 61) + 4096, (1UL << 61) + (2 * GiB), ExtentKind.Hole), source.Find((1UL << 61) + 4096));
    }

    [Fact]
    public async Task Quick_answers_make_questions_with_extended_headers_longer()
    {
        ExtentSource source = NewSource(1UL << 62, extended: true);
        ulong position = 0;
        ulong length = 0;
        while (position < 1UL << 61)
        {
            Task learnt = source.Learn(position);
            Question question = Take();
            Assert.True(question.Length >= length, $"{question.Length} after {length}");
            length = question.Length;
            question.Answer((length, 3));
            await learnt;
            position += length;
        }

        Assert.True(length > 1UL << 59);
        Assert.Equal(position, source.Tracker.HoleBytes(0, 1UL << 62, out _));
    }

    [Fact]
    public async Task Only_what_reads_as_zeroes_is_a_hole()
    {
        ExtentSource source = NewSource(8 * GiB, extended: false);
        Task learnt = source.Learn(0);
        Take().Answer((4096, 1), (4096, 2), (4096, 0), (4096, 3));
        await learnt;

        Assert.Equal(
            [ExtentKind.Data, ExtentKind.Hole, ExtentKind.Data, ExtentKind.Hole],
            Enumerable.Range(0, 4).Select(i => source.Find((ulong)i * 4096).Kind));
    }

    [Fact]
    public async Task All_is_mapped_though_answers_are_short_or_reach_past_the_end()
    {
        ExtentSource source = NewSource(9 * GiB, extended: false);
        Task mapped = source.Map();
        Assert.Same(mapped, source.Map());
        while (!mapped.IsCompleted)
        {
            foreach (Question question in TakeAll())
            {
                // Never more than up to the next GiB, but for the last one.
                ulong number = question.Offset / GiB;
                question.Answer((number == 8 ? 100 * GiB : ((number + 1) * GiB) - question.Offset, number % 2 == 0 ? 3u : 0u));
            }

            await Task.Yield();
        }

        ulong holes = source.Tracker.HoleBytes(0, 9 * GiB, out bool isWhole);
        Assert.True(isWhole);
        Assert.Equal(5 * GiB, holes);
        Assert.True(source.Map().IsCompleted);
    }

    [Fact]
    public async Task When_the_server_refuses_all_is_data_for_a_while_and_that_is_told_once()
    {
        ExtentSource source = NewSource(8 * GiB, extended: false);
        Task learnt = source.Learn(0);
        Take().Fail(Errno.EIO);
        await learnt;

        Assert.Equal(ExtentKind.Data, source.Find(0).Kind);
        Assert.True(source.Map().IsCompleted);
        Assert.Empty(TakeAll());

        _time.Advance(TimeSpan.FromSeconds(6));
        Assert.Equal(ExtentKind.Unknown, source.Find(0).Kind);
        learnt = source.Learn(0);
        Take().Fail(Errno.EPERM);
        await learnt;
        Assert.Single(_told);
    }

    [Fact]
    public async Task A_server_that_refuses_what_is_longer_than_a_payload_is_asked_for_less()
    {
        ExtentSource source = NewSource(8 * GiB, extended: false);
        Task learnt = source.Learn(0);
        Take().Fail(Errno.EINVAL);
        await learnt;
        Assert.Equal(ExtentKind.Unknown, source.Find(0).Kind);

        learnt = source.Learn(0);
        Question question = Take();
        Assert.Equal((ulong)NbdExport.DefaultMaximumPayloadBytes, question.Length);
        question.Answer((question.Length, 3));
        await learnt;

        Assert.Equal(ExtentKind.Hole, source.Find(0).Kind);
        Assert.Empty(_told);
    }

    [Fact]
    public async Task A_command_that_cannot_be_sent_is_a_refusal()
    {
        ExtentSource source = new(
            GiB, Export(GiB, false), 0, TimeSpan.FromSeconds(5), (_, _, _) => Errno.EIO, _told.Add, _time);

        await source.Map();

        Assert.Equal(ExtentKind.Data, source.Find(0).Kind);
        Assert.Single(_told);
    }

    private static NbdExport Export(ulong size, bool extended) => new()
    {
        SizeBytes = (long)size,
        Flags = NbdTransmissionFlags.HasFlags,
        ExtendedHeaders = extended,
        MetaContexts = ["base:allocation"],
    };

    private ExtentSource NewSource(ulong size, bool extended) => new(
        size,
        Export(size, extended),
        0,
        TimeSpan.FromSeconds(5),
        (offset, length, completion) =>
        {
            lock (_gate)
            {
                _questions.Add(new Question(offset, length, completion));
            }

            return Errno.None;
        },
        _told.Add,
        _time);

    private Question Take() => Assert.Single(TakeAll());

    private List<Question> TakeAll()
    {
        lock (_gate)
        {
            List<Question> taken = [.. _questions];
            _questions.Clear();
            return taken;
        }
    }

    private sealed unsafe record Question(ulong Offset, ulong Length, NbdBlockStatusCompletion Completion)
    {
        public void Answer(params (ulong Length, ulong Flags)[] extents)
        {
            Completion.OnExtents(0, [.. extents.Select(extent => new NbdBlockDescriptor(extent.Length, extent.Flags))]);
            Completion.OnCompleted(Errno.None, null);
        }

        public void Fail(Errno error) => Completion.OnCompleted(error, null);
    }
}
