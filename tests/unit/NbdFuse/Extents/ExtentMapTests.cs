using NbdFuse;

namespace UnitTests.NbdFuseTests;

/// <summary>The map against one that has a kind for each byte.</summary>
public sealed class ExtentMapTests
{
    [Fact]
    public void At_first_nothing_is_known()
    {
        ExtentMap map = new(1UL << 63);

        Assert.Equal(new ExtentRun(0, 1UL << 63, ExtentKind.Unknown), map.Find((1UL << 63) - 1));
        Assert.Equal(1UL << 63, map.UnknownBytes);
    }

    [Fact]
    public void Runs_of_one_kind_that_touch_are_one()
    {
        ExtentMap map = new(1000);
        map.Set(100, 200, ExtentKind.Hole);
        map.Set(300, 400, ExtentKind.Hole);
        map.Set(200, 300, ExtentKind.Hole);

        Assert.Equal(new ExtentRun(100, 400, ExtentKind.Hole), map.Find(250));
        Assert.Equal(3, map.Count);
    }

    [Fact]
    public void Data_in_a_hole_splits_it()
    {
        ExtentMap map = new(1000);
        map.Set(0, 1000, ExtentKind.Hole);
        map.Set(400, 500, ExtentKind.Data);

        Assert.Equal(new ExtentRun(0, 400, ExtentKind.Hole), map.Find(0));
        Assert.Equal(new ExtentRun(400, 500, ExtentKind.Data), map.Find(499));
        Assert.Equal(new ExtentRun(500, 1000, ExtentKind.Hole), map.Find(500));
        Assert.Equal(900UL, map.HoleBytes);
        Assert.Equal(150UL, map.HoleBytesIn(350, 600));
        Assert.Equal(0UL, map.HoleBytesIn(400, 500));
    }

    [Fact]
    public void What_lies_past_the_end_is_left_out()
    {
        ExtentMap map = new(1000);
        map.Set(900, ulong.MaxValue, ExtentKind.Hole);
        map.Set(1000, 2000, ExtentKind.Data);

        Assert.Equal(100UL, map.HoleBytes);
        Assert.Equal(new ExtentRun(900, 1000, ExtentKind.Hole), map.Find(999));
    }

    [Fact]
    public void The_next_unknown_run_is_found()
    {
        ExtentMap map = new(1000);
        map.Set(0, 100, ExtentKind.Data);
        map.Set(600, 700, ExtentKind.Hole);

        Assert.Equal(new ExtentRun(100, 600, ExtentKind.Unknown), map.FindUnknown(0));
        Assert.Equal(new ExtentRun(700, 1000, ExtentKind.Unknown), map.FindUnknown(600));
        map.Set(100, 1000, ExtentKind.Data);
        Assert.Equal(0UL, map.FindUnknown(0).Length);
        map.Set(50, 60, ExtentKind.Unknown);
        Assert.Equal(new ExtentRun(50, 60, ExtentKind.Unknown), map.FindUnknown(0));
        Assert.Equal(0UL, map.FindUnknown(60).Length);
        Assert.Equal(0UL, map.FindUnknown(1000).Length);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void Random_changes_make_the_same_map_as_byte_by_byte(int seed)
    {
        const int Size = 5000;
        Random random = new(seed);
        ExtentMap map = new(Size);
        ExtentKind[] model = new ExtentKind[Size];
        for (int step = 0; step < 3000; step++)
        {
            int start = random.Next(Size);
            int end = Math.Min(Size, start + 1 + random.Next(random.Next(8) == 0 ? Size : 12));
            ExtentKind kind = (ExtentKind)random.Next(3);
            Assert.Equal(default, map.Set((ulong)start, (ulong)end, kind));
            Array.Fill(model, kind, start, end - start);
            Compare(map, model);
        }
    }

    [Fact]
    public void Memory_is_bounded_and_what_is_forgotten_is_unknown()
    {
        const int Capacity = 500;
        const ulong Size = 1 << 20;
        Random random = new(7);
        ExtentMap map = new(Size, Capacity);
        ExtentKind[] model = new ExtentKind[Size];
        int forgotten = 0;
        for (int step = 0; step < 20_000; step++)
        {
            int start = random.Next((int)Size);
            int end = Math.Min((int)Size, start + 1 + random.Next(100));
            ExtentKind kind = (ExtentKind)random.Next(3);
            Array.Fill(model, kind, start, end - start);
            ExtentRun gone = map.Set((ulong)start, (ulong)end, kind);
            if (gone.Length > 0)
            {
                forgotten++;
                Array.Fill(model, ExtentKind.Unknown, (int)gone.Start, (int)gone.Length);
                Assert.True(map.Find((ulong)start).Kind == kind, "the last change was forgotten");
            }

            Assert.InRange(map.Count, 1, Capacity);
        }

        Assert.InRange(forgotten, 10, 1000);
        Compare(map, model);
    }

    [Fact]
    public void A_walk_from_start_to_end_of_more_runs_than_fit_always_has_those_around_it()
    {
        ExtentMap map = new(1UL << 40, 1000);
        for (ulong i = 0; i < 100_000; i++)
        {
            map.Set(i * 4096, (i + 1) * 4096, (i & 1) == 0 ? ExtentKind.Hole : ExtentKind.Data);
            ExtentKind before = i == 0 ? ExtentKind.Unknown : (i & 1) == 0 ? ExtentKind.Data : ExtentKind.Hole;
            Assert.Equal(before, i == 0 ? ExtentKind.Unknown : map.Find((i - 1) * 4096).Kind);
        }

        Assert.InRange(map.Count, 400, 1000);
    }

    private static void Compare(ExtentMap map, ExtentKind[] model)
    {
        int runs = 0;
        ulong holes = 0;
        ulong unknown = 0;
        for (int start = 0; start < model.Length; runs++)
        {
            int end = start;
            while (end < model.Length && model[end] == model[start])
            {
                end++;
            }

            Assert.Equal(new ExtentRun((ulong)start, (ulong)end, model[start]), map.Find((ulong)start));
            Assert.Equal(new ExtentRun((ulong)start, (ulong)end, model[start]), map.Find((ulong)end - 1));
            Assert.Equal(
                NextUnknown(model, start), map.FindUnknown((ulong)start) is { Length: > 0 } next ? (int)Math.Max(next.Start, (ulong)start) : model.Length);
            holes += model[start] == ExtentKind.Hole ? (ulong)(end - start) : 0;
            unknown += model[start] == ExtentKind.Unknown ? (ulong)(end - start) : 0;
            start = end;
        }

        Assert.Equal(runs, map.Count);
        Assert.Equal(holes, map.HoleBytes);
        Assert.Equal(unknown, map.UnknownBytes);
    }

    private static int NextUnknown(ExtentKind[] model, int from)
    {
        int at = Array.IndexOf(model, ExtentKind.Unknown, from);
        return at < 0 ? model.Length : at;
    }
}
