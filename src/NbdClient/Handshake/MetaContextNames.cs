using System.Collections;

namespace Nbd;

/// <summary>Names of meta contexts; two lists of the same names in the same order are equal.</summary>
internal sealed class MetaContextNames(IEnumerable<string> names) : IReadOnlyList<string>, IEquatable<MetaContextNames>
{
    internal static readonly MetaContextNames None = new([]);

    private readonly string[] _names = [.. names];

    public int Count => _names.Length;

    public string this[int index] => _names[index];

    public bool Equals(MetaContextNames? other) => other is not null && _names.AsSpan().SequenceEqual(other._names);

    public override bool Equals(object? obj) => Equals(obj as MetaContextNames);

    public override int GetHashCode() => _names.Aggregate(0, HashCode.Combine);

    public override string ToString() => string.Join(", ", _names);

    public IEnumerator<string> GetEnumerator() => ((IEnumerable<string>)_names).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => _names.GetEnumerator();
}
